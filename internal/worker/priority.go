package worker

import "time"

// Worker processes have two priorities. A process starts with the server's. Before it
// executes a heavy, background or long call, or once an interactive call has used
// lowerAfter, it gets a lower one for the rest of its life: without privileges, a process
// cannot raise its priority again (setpriority(2)). Light and urgent calls are not
// executed at the lower priority: a process that takes one is replaced.
//
// Without that, a slow rule of one repository delays every other request: on each wakeup,
// the server and the database wait until the kernel interrupts the worker.
const lowerAfter = 20 * time.Millisecond

// lower gives the process the lower priority.
func (p *process) lower() {
	if p.low.CompareAndSwap(false, true) {
		lowerPriority(p.cmd.Process.Pid)
	}
}
