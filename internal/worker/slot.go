package worker

import (
	"errors"
	"fmt"
	"time"
)

// slot executes calls in one process at a time.
type slot struct {
	pool *Pool
	wake chan struct{} // with a buffer of one

	process *process // of the slot's goroutine

	// Under the pool's lock.
	executing *process // while it executes calls
	alive     *process
}

// loop executes batches until the pool is closed.
func (s *slot) loop() {
	p := s.pool
	<-s.wake
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			s.end()
			return
		}
		batch, k := p.next(s)
		if len(batch) == 0 {
			p.idle = append(p.idle, s)
			p.mu.Unlock()
			<-s.wake
			continue
		}
		if p.waiting > 0 {
			p.wakeOne() // it sleeps again if there is nothing that it may execute
		}
		p.mu.Unlock()

		s.execute(batch, k)

		p.mu.Lock()
		s.executing = nil
		p.release(batch, k)
		p.mu.Unlock()
	}
}

// end ends the process, and reports whether its exit status was 0.
func (s *slot) end() (inOrder bool) {
	if s.process == nil {
		return true
	}
	p := s.pool
	p.mu.Lock()
	s.executing, s.alive = nil, nil
	p.status.Workers--
	p.mu.Unlock()
	inOrder = s.process.end()
	s.process = nil
	return inOrder
}

// ensure starts a process if there is none.
func (s *slot) ensure() error {
	if s.process != nil {
		return nil
	}
	process, err := startProcess(s.pool.config.Limits)
	if err != nil {
		return err
	}
	s.process = process
	p := s.pool
	p.mu.Lock()
	s.alive = process
	p.status.Workers++
	p.mu.Unlock()
	return nil
}

// begin assigns tasks to the slot's process, and returns those to execute. It finishes
// tasks that were canceled meanwhile, and all tasks once the pool is closed.
func (s *slot) begin(batch []*task) (wanted []*task) {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range batch {
		switch {
		case p.closed:
			t.finish(nil, ErrClosed)
		case t.canceled:
			t.finish(nil, errCanceled)
		default:
			t.process = s.process
			wanted = append(wanted, t)
		}
	}
	if len(wanted) > 0 {
		s.executing = s.process
	}
	return wanted
}

// errCanceled is for a caller that does not wait any longer.
var errCanceled = errors.New("the call was canceled")

// execute sends a batch of a kind and returns the replies to the callers. Afterwards
// every task is finished or queued again.
func (s *slot) execute(batch []*task, k kind) {
	if s.process != nil && s.process.low.Load() && !k.isLow() {
		s.end()
	}
	if err := s.ensure(); err != nil {
		s.pool.config.Log.Error("policy worker not started", "error", err)
		for _, t := range batch {
			t.finish(nil, err)
		}
		return
	}
	if batch = s.begin(batch); len(batch) == 0 {
		return
	}
	if k.isLow() {
		s.process.lower()
	}
	follow, rest, err := s.exchange(batch)
	if err != nil {
		s.died(batch, append(follow, rest...), err)
		return
	}
	for i, t := range follow {
		for range maxFollow {
			again, _, err := s.exchange([]*task{t})
			if err != nil {
				s.died(follow[i:i+1], follow[i:], err)
				return
			}
			if len(again) == 0 {
				t = nil
				break
			}
		}
		if t != nil {
			t.finish(nil, fmt.Errorf("the worker requested more than %d further messages", maxFollow))
		}
	}
}

// maxFollow is how many messages a call sends after its first.
const maxFollow = 8

// exchange sends requests and reads the replies. It returns the tasks that need a
// further message, and those without a reply because of err.
func (s *slot) exchange(batch []*task) (follow, rest []*task, err error) {
	process := s.process
	process.page.word(wordMark).Store(0)
	watch := newWatch(process, s.pool.config.Grace, s.pool.lowered, batch[0])
	defer watch.stop()
	if err := process.send(batch); err != nil {
		return nil, batch, err
	}
	for i, t := range batch {
		f, err := process.receive(t.id, t.MaxReply)
		if err != nil {
			return follow, batch[i:], err
		}
		process.served++
		if t.Class == Interactive {
			s.pool.charge(t.share, time.Duration(f.cpu))
		}
		if i+1 < len(batch) {
			watch.restart(batch[i+1])
		}
		if t.Follow != nil {
			if next := t.Follow(f.message); next != nil {
				t.request = next
				follow = append(follow, t)
				continue
			}
		}
		t.finish(f.message, nil)
	}
	return follow, nil, nil
}

// send writes requests in one write.
func (p *process) send(batch []*task) error {
	p.buffer = p.buffer[:0]
	for _, t := range batch {
		p.buffer = appendFrame(p.buffer, frame{id: t.id, message: t.request})
	}
	_, err := p.in.Write(p.buffer)
	if cap(p.buffer) > 1<<20 {
		p.buffer = nil
	}
	return err
}

// charge adds the processor time of a call to its share.
func (p *Pool) charge(s *share, d time.Duration) {
	p.mu.Lock()
	s.use(d, time.Now())
	p.mu.Unlock()
}

// died handles the end of a process with unfinished tasks.
func (s *slot) died(batch, unfinished []*task, failure error) {
	process, p := s.process, s.pool
	mark := process.page.word(wordMark).Load()
	served := process.served
	inOrder := s.end()
	if inOrder {
		p.mu.Lock()
		p.status.Retired++
		p.mu.Unlock()
	}
	if len(batch) > 1 || len(unfinished) > 1 && inOrder {
		// Any of them may be to blame: each is executed again alone.
		p.requeue(unfinished, func(t *task) { t.alone = true })
		return
	}
	t := batch[0]
	p.requeue(unfinished[1:], func(*task) {})
	p.mu.Lock()
	canceled, closed := t.canceled, p.closed
	p.mu.Unlock()
	switch {
	case closed:
		t.finish(nil, ErrClosed)
		return
	case canceled:
		t.finish(nil, errCanceled)
		return
	case inOrder && t.retired < 3:
		p.requeue([]*task{t}, func(t *task) { t.retired++ })
		return
	}
	death := &Death{Cause: causeOf(process.errors.String()), Mark: mark}
	switch {
	case process.timeout.Load():
		death.Cause = OutOfTime
	case errors.Is(failure, errFrame):
		death.Cause = BadReply
	}
	if (death.Cause == OutOfMemory || death.Cause == Crashed) && served > 0 && !t.repeated {
		// The memory may be that of earlier calls.
		p.requeue([]*task{t}, func(t *task) { t.repeated, t.alone = true, true })
		return
	}
	p.blame(t, death, process.errors.String())
}

// requeue puts tasks to the front of their queues.
func (p *Pool) requeue(tasks []*task, change func(*task)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(tasks) - 1; i >= 0; i-- {
		t := tasks[i]
		change(t)
		switch {
		case p.closed:
			t.finish(nil, ErrClosed)
		case t.canceled:
			t.finish(nil, errCanceled)
		default:
			t.request, t.process = t.Request, nil
			p.push(t, true)
		}
	}
}

// blame finishes a task with its death and puts its blame key into quarantine.
func (p *Pool) blame(t *task, d *Death, stderr string) {
	switch d.Cause {
	case OutOfTime:
		d.Limit = (t.Limit + p.config.Grace).String()
	case OutOfMemory:
		d.Limit = bytesText(p.config.Limits.Memory)
	case OutOfStack:
		d.Limit = bytesText(p.config.Limits.Stack)
	case BadReply:
		d.Limit = bytesText(int64(t.MaxReply))
	}
	if t.Uncounted {
		t.finish(nil, d)
		return
	}
	p.mu.Lock()
	p.status.Deaths[d.Cause]++
	p.isolate(t.QuarantineKey, t.Share, d)
	p.refuseWaiting(t.share, t.QuarantineKey)
	p.mu.Unlock()
	p.config.Log.Error("policy worker ended by a call", "share", t.Share, "cause", string(d.Cause), "limit", d.Limit, "error", firstLine(stderr))
	if p.config.OnDeath != nil {
		p.config.OnDeath(t.Share, d)
	}
	t.finish(nil, d)
}
