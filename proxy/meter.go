package proxy

import "sync/atomic"

// meter counts the bytes of one direction of an admission on the connection to
// its target, and enforces the byte limits of the decision. Bytes are reserved
// before they move, so that concurrent tunnels and requests of one step cannot
// pass its limit together. It is safe for concurrent use.
type meter struct {
	moved     atomic.Int64
	limit     int64         // of this admission; 0: none
	step      *atomic.Int64 // of all admissions of the step; nil: not counted
	stepLimit int64         // 0: none
}

// reserve counts up to n bytes and returns how many of them may move.
func (m *meter) reserve(n int) int {
	granted := addUpTo(&m.moved, n, m.limit)
	if m.step == nil {
		return granted
	}
	ofStep := addUpTo(m.step, granted, m.stepLimit)
	if ofStep < granted {
		m.moved.Add(int64(ofStep - granted))
	}
	return ofStep
}

// unreserve returns n reserved bytes that did not move.
func (m *meter) unreserve(n int) {
	if n <= 0 {
		return
	}
	m.moved.Add(int64(-n))
	if m.step != nil {
		m.step.Add(int64(-n))
	}
}

// addUpTo adds n to a count, or less if its limit would be exceeded, and returns what
// it added. A limit of 0 is not a limit.
func addUpTo(count *atomic.Int64, n int, limit int64) int {
	if limit <= 0 {
		count.Add(int64(n))
		return n
	}
	for {
		old := count.Load()
		granted := max(min(int64(n), limit-old), 0)
		if granted == 0 || count.CompareAndSwap(old, old+granted) {
			return int(granted)
		}
	}
}

// allowance returns how many bytes could be reserved now, at most want.
func (m *meter) allowance(want int) int {
	if m.limit > 0 {
		want = int(min(int64(want), m.limit-m.moved.Load()))
	}
	if m.stepLimit > 0 {
		want = int(min(int64(want), m.stepLimit-m.step.Load()))
	}
	return max(want, 0)
}

// isBounded reports whether there is a limit.
func (m *meter) isBounded() bool { return m.limit > 0 || m.stepLimit > 0 }

// isStepNearer reports whether the step's limit is nearer than the admission's.
func (m *meter) isStepNearer() bool {
	return m.stepLimit > 0 && (m.limit == 0 || m.stepLimit-m.step.Load() < m.limit-m.moved.Load())
}
