package worker

import (
	"sync/atomic"
	"unsafe"
)

// page is memory that the pool and one worker share: what the worker notes there
// outlives the worker.
type page struct{ memory []byte }

func (p *page) word(i int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&p.memory[8*i]))
}

// The words of a page.
const (
	wordMark = iota // see SetMark
	wordTick        // see Tick
)

// shared is the page of this process if it is a worker.
var shared atomic.Pointer[page]

// SetMark notes where the worker is in its call. The pool reads the mark after the
// worker has died; see [Death]. Outside of a worker it does nothing.
func SetMark(mark uint64) {
	if p := shared.Load(); p != nil {
		p.word(wordMark).Store(mark)
	}
}

// Tick notes progress for [Call.Quiet]. Outside of a worker it does nothing.
func Tick() {
	if p := shared.Load(); p != nil {
		p.word(wordTick).Add(1)
	}
}
