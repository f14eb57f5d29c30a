package operator

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/admin"
)

// TestDebug: each kind has its format, and is recorded with its operator. What cannot be
// recorded is not collected.
func TestDebug(t *testing.T) {
	i, operations := start(t)
	for _, c := range []struct {
		request admin.DebugRequest
		begins  string
	}{
		{admin.DebugRequest{Kind: admin.DebugProfile, Duration: 10 * time.Millisecond}, "\x1f\x8b"},
		{admin.DebugRequest{Kind: admin.DebugTrace, Duration: 10 * time.Millisecond}, "go 1."},
		{admin.DebugRequest{Kind: admin.DebugHeap}, "\x1f\x8b"},
		{admin.DebugRequest{Kind: admin.DebugGoroutines}, "goroutine profile: total"},
	} {
		i.events = nil
		data, err := operations.Debug.Collect(t.Context(), ada, c.request)
		if err != nil || !strings.HasPrefix(string(data.Data), c.begins) {
			t.Errorf("%s: %v, and the data begin with %.20q", c.request.Kind, err, data.Data)
		}
		i.only(t, "debug")
		i.recordErr = errors.New("no database")
		if data, err := operations.Debug.Collect(t.Context(), ada, c.request); !errors.Is(err, i.recordErr) || data.Data != nil {
			t.Errorf("%s without a record: %v, %d bytes", c.request.Kind, err, len(data.Data))
		}
		i.recordErr = nil
	}
	i.events = nil
	for _, r := range []admin.DebugRequest{
		{}, {Kind: "memory"}, {Kind: admin.DebugProfile}, {Kind: admin.DebugProfile, Duration: -1}, {Kind: admin.DebugTrace, Duration: admin.MaxDebugDuration + 1},
		{Kind: admin.DebugHeap, Duration: time.Second},
	} {
		if _, err := operations.Debug.Collect(t.Context(), ada, r); err == nil {
			t.Errorf("%+v was accepted", r)
		} else if _, ok := errors.AsType[*admin.Mistake](err); !ok {
			t.Errorf("%+v: %v is a %T", r, err, err)
		}
	}
	if len(i.events) > 0 {
		t.Errorf("mistakes are on record: %v", i.events)
	}
}

// TestDebugIsOneAtATime: while one request collects, others are refused.
func TestDebugIsOneAtATime(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	enter := sync.OnceFunc(func() { close(entered) })
	d := debugging{busy: new(sync.Mutex), record: func(context.Context, admin.Operator, string, string, ...func(*audit.Event)) error {
		enter()
		<-release
		return nil
	}}
	request := admin.DebugRequest{Kind: admin.DebugGoroutines}
	first := make(chan error, 1)
	go func() {
		_, err := d.Collect(t.Context(), ada, request)
		first <- err
	}()
	<-entered
	if _, err := d.Collect(t.Context(), ada, request); err == nil || !strings.Contains(err.Error(), "another debug command") {
		t.Errorf("a second one: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := d.Collect(t.Context(), ada, request); err != nil {
		t.Errorf("after the first one has ended: %v", err)
	}
}

// secret is in memory, and the argument of a function that waits.
const secret = "hunter2-of-the-debug-test"

type words [2]uint64

//go:noinline
func hold(release <-chan struct{}, _ string, w words) words {
	<-release
	return words{w[1], w[0]}
}

// argument is how a stack with arguments shows the words of hold.
const argument = "0x5ec2e75ec2e7"

// TestDebugHasNoContents: no kind of data has what is in memory. The format of goroutines
// with arguments has it, so that the choice of the format is needed.
func TestDebugHasNoContents(t *testing.T) {
	_, operations := start(t)
	release, held := make(chan struct{}), make(chan words, 1)
	text := strings.Clone(secret)
	go func() { held <- hold(release, text, words{0x5ec2e75ec2e7, 1}) }()
	defer func() { close(release); <-held }()
	waits := func(format int) string {
		var b bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&b, format); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for !strings.Contains(waits(1), "operator.hold") {
		runtime.Gosched()
	}
	if !strings.Contains(waits(2), argument) {
		t.Error("a stack with arguments does not have the argument: this test shows nothing")
	}
	for _, kind := range []string{admin.DebugProfile, admin.DebugTrace, admin.DebugHeap, admin.DebugGoroutines} {
		r := admin.DebugRequest{Kind: kind}
		if kind == admin.DebugProfile || kind == admin.DebugTrace {
			r.Duration = 10 * time.Millisecond
		}
		data, err := operations.Debug.Collect(t.Context(), ada, r)
		if err != nil {
			t.Fatal(err)
		}
		content := data.Data
		if unzipped, err := gzip.NewReader(bytes.NewReader(content)); err == nil {
			if content, err = io.ReadAll(unzipped); err != nil {
				t.Fatal(err)
			}
		}
		if bytes.Contains(content, []byte(secret)) || bytes.Contains(content, []byte(argument)) {
			t.Errorf("%s has contents of memory", kind)
		}
	}
}

// TestDebugIsBounded: more than the bound is not kept, and ends the collection.
func TestDebugIsBounded(t *testing.T) {
	t.Parallel()
	out, ended := &boundedBuffer{}, false
	out.onLimit(func() { ended = true })
	block := make([]byte, admin.MaxDebugBytes)
	if n, err := out.Write(block); n != len(block) || err != nil || ended {
		t.Errorf("%d, %v, ended: %t", n, err, ended)
	}
	if n, err := out.Write(block[:1]); n != 0 || err == nil || !ended || !out.over || out.Len() != len(block) {
		t.Errorf("beyond the bound: %d, %v, ended: %t", n, err, ended)
	}
}
