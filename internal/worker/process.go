package worker

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// startTimeout bounds the time from the start of a process to its first message.
const startTimeout = 20 * time.Second

// process is one worker process. One goroutine uses it at a time.
type process struct {
	cmd    *exec.Cmd
	in     *os.File // requests
	out    *os.File // replies
	reader *bufio.Reader
	page   *page
	errors *tail
	buffer []byte

	served  int // calls that it has answered
	closed  bool
	timeout atomic.Bool // the pool killed the process because of its time limit
	low     atomic.Bool // it has the lower priority
	waited  chan struct{}
}

// spawner starts processes on one thread that never ends. The kernel kills a worker
// when the thread that started it ends (PR_SET_PDEATHSIG, prctl(2)).
var spawner = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// startProcess starts a worker with nothing but two pipes, standard error and the
// shared page: no other descriptor, and no environment but what the Go runtime needs to
// run on one processor. It returns when the worker is ready.
func startProcess(limits Limits) (*process, error) {
	if !handled.Load() {
		return nil, errors.New("start a policy worker: this program does not call worker.Main first")
	}
	arguments, err := json.Marshal(limits)
	if err != nil {
		return nil, err
	}
	shared, pageFile, err := newPage()
	if err != nil {
		return nil, fmt.Errorf("start a policy worker: %w", err)
	}
	p := &process{page: shared, errors: &tail{}, waited: make(chan struct{})}
	var childIn, childOut *os.File
	if childIn, p.in, err = os.Pipe(); err == nil {
		p.out, childOut, err = os.Pipe()
	}
	if err == nil {
		p.cmd = &exec.Cmd{
			Path: executable(), Args: []string{programName, string(arguments)}, Env: []string{"GOMAXPROCS=1"},
			Dir: "/", Stdin: childIn, Stdout: childOut, Stderr: p.errors, SysProcAttr: attributes(),
			// What holds standard error open after the process has ended is not waited for.
			WaitDelay: time.Second,
		}
		if pageFile != nil {
			p.cmd.ExtraFiles = []*os.File{pageFile}
		}
		started := make(chan error)
		spawner() <- func() { started <- p.cmd.Start() }
		err = <-started
	}
	for _, f := range []*os.File{childIn, childOut, pageFile} {
		if f != nil {
			_ = f.Close()
		}
	}
	if err != nil {
		for _, f := range []*os.File{p.in, p.out} {
			if f != nil {
				_ = f.Close()
			}
		}
		shared.unmap()
		return nil, fmt.Errorf("start a policy worker: %w", err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.waited)
	}()
	p.reader = bufio.NewReaderSize(p.out, 64<<10)
	_ = p.out.SetReadDeadline(time.Now().Add(startTimeout))
	hello, err := readFrame(p.reader, 1<<10)
	_ = p.out.SetReadDeadline(time.Time{})
	if err != nil || string(hello.message) != programName {
		p.end()
		return nil, fmt.Errorf("start a policy worker: it does not answer: %v: %s", err, p.errors)
	}
	return p, nil
}

// receive reads the reply to a request.
func (p *process) receive(id uint64, limit int) (frame, error) {
	f, err := readFrame(p.reader, limit)
	if err != nil {
		return frame{}, err
	}
	if f.id != id {
		return frame{}, fmt.Errorf("%w: the reply to %d instead of %d", errFrame, f.id, id)
	}
	return f, nil
}

// kill ends the process at once.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

// end ends the process if it has not ended, and frees what it holds. It returns
// after the process has ended, and reports whether that was in order: with status 0.
func (p *process) end() (inOrder bool) {
	if p.closed {
		return false
	}
	p.closed = true
	select {
	case <-p.waited:
	case <-p.exiting():
	}
	p.kill()
	<-p.waited
	_, _ = p.in.Close(), p.out.Close()
	p.page.unmap()
	return p.cmd.ProcessState.Success()
}

// exiting is closed when a process that has closed its end of the pipes has had
// time to end by itself, so that its status is its own.
func (p *process) exiting() <-chan time.Time {
	_ = p.out.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := p.reader.Peek(1); errors.Is(err, io.EOF) {
		return time.After(5 * time.Second)
	}
	return time.After(0)
}

// tail keeps the beginning of what a process writes to standard error: the Go
// runtime writes the cause of a fatal error first.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const maxTail = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := maxTail - len(t.text); room > 0 {
		t.text = append(t.text, b[:min(room, len(b))]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
