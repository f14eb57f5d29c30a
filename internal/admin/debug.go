package admin

import "time"

// pathDebug is the verb that describes the running process.
const pathDebug = "/v1/debug"

// The kinds of [DebugRequest].
const (
	DebugProfile    = "profile"    // CPU profile, for pprof
	DebugTrace      = "trace"      // execution trace, for go tool trace
	DebugGoroutines = "goroutines" // stacks of all goroutines as text, without arguments
	DebugHeap       = "heap"       // heap profile, for pprof
)

// The bounds of a [DebugRequest].
const (
	MaxDebugDuration = time.Minute
	MaxDebugBytes    = 32 << 20
)

// DebugRequest asks for a description of the process.
type DebugRequest struct {
	Kind     string        `json:"kind"`
	Duration time.Duration `json:"duration,omitempty"` // nanoseconds; of a profile and a trace
}

// DebugData is the outcome of a [DebugRequest].
type DebugData struct {
	Data []byte `json:"data"`
}
