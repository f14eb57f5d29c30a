package worker

// Limits bound a worker process. A zero field is the default.
type Limits struct {
	// Memory is how many bytes of private memory the process may have beyond those
	// that it has when it starts.
	Memory int64 `json:"memory"`
	// Stack bounds the stack of one goroutine, in bytes.
	Stack int64 `json:"stack"`
}

// The defaults.
const (
	DefaultMemory = 256 << 20
	DefaultStack  = 64 << 20
)
