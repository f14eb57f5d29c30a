package proxy

import (
	"errors"
	"io"
	"syscall"
	"testing"
)

// TestUsedPipeIsNotReused is the control behind TestPipesAreNotShared:
// what still holds bytes does not go back to the others.
func TestUsedPipeIsNotReused(t *testing.T) {
	closeIdlePipes()
	p := acquirePipe()
	if p == nil {
		t.Fatal("no pipe")
	}
	if _, err := syscall.Write(p.w, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	p.held = 6
	p.recycle()
	if len(pipes) != 0 {
		t.Fatal("a pipe that holds bytes was kept")
	}
	if _, err := syscall.Write(p.w, []byte("x")); !errors.Is(err, syscall.EBADF) {
		t.Errorf("it was not closed: %v", err)
	}
	q := acquirePipe()
	q.recycle()
	if len(pipes) != 1 {
		t.Error("an empty pipe was not kept")
	}
	closeIdlePipes()
	if len(pipes) != 0 {
		t.Error("pipes are left")
	}
}

// TestIdlePipesAreClosed: an instance without tunnels holds no descriptors for them.
func TestIdlePipesAreClosed(t *testing.T) {
	closeIdlePipes()
	r := openTunnel(t)
	go func() {
		write(t, r.client, make([]byte, 4<<20))
		_ = r.client.CloseWrite()
	}()
	if _, err := io.Copy(io.Discard, r.target); err != nil {
		t.Error(err)
	}
	_ = r.target.Close()
	r.wantOutcome(CauseFinished, 4<<20, 0)
	if n := len(pipes); n != 0 {
		t.Errorf("%d pipes are kept", n)
	}
}
