package webhook

import "time"

// DeliveryTrace is the present outcome of one verified delivery: its event in the audit log,
// and its tasks in the queue.
type DeliveryTrace struct {
	ID             string    `json:"id"` // UUID of the delivery and of its event
	Recorded       time.Time `json:"recorded_at"`
	Writer         string    `json:"writer"`
	WriterSequence int64     `json:"writer_sequence"`
	Verdict        string    `json:"verdict"` // allow or deny
	Reason         string    `json:"reason"`
	Rule           string    `json:"rule,omitempty"`
	Message        string    `json:"message,omitempty"` // the policy author's
	Revision       string    `json:"revision,omitempty"`
	Routes         string    `json:"routes,omitempty"` // as recorded: actions and endpoints, separated by "; "
	// Unqueued is why the delivery was not committed with its event; empty: it was.
	Unqueued string       `json:"unqueued,omitempty"`
	Tasks    []TracedTask `json:"tasks"` // in the order of acceptance
}

// TracedTask is a task with the result that its endpoint gave.
type TracedTask struct {
	StoredTask
	Status   int           `json:"status,omitempty"`   // HTTP status of the accepted attempt; 0: none
	Duration time.Duration `json:"duration,omitempty"` // of the accepted attempt, in nanoseconds
}
