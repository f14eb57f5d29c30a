package worker

import (
	"sync/atomic"
	"unsafe"
)

// page is memory that the pool and one worker share. Its content outlives the worker.
type page struct{ memory []byte }

// word returns one 8-byte field of the page.
func (p *page) word(i int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&p.memory[8*i]))
}

// The fields of a page.
const (
	wordMark = iota // see SetMark
	wordTick        // see Tick
)

// shared is the page of this process if it is a worker.
var shared atomic.Pointer[page]

// SetMark records the worker's position in its call. If the worker dies, the pool
// reports the mark in [Death]. Outside of a worker, SetMark does nothing.
func SetMark(mark uint64) {
	if p := shared.Load(); p != nil {
		p.word(wordMark).Store(mark)
	}
}

// Tick records progress for [Call.ProgressTimeout]. Outside of a worker, Tick does nothing.
func Tick() {
	if p := shared.Load(); p != nil {
		p.word(wordTick).Add(1)
	}
}
