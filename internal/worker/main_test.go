package worker

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main(func() Handler { return &testHandler{} })
	os.Exit(m.Run())
}

// testHandler executes the command that a request contains, good or bad.
type testHandler struct {
	retire bool
	kept   [][]byte
}

func (h *testHandler) Retire() bool { return h.retire }

func (h *testHandler) Handle(request []byte) []byte {
	verb, rest, _ := strings.Cut(string(request), " ")
	switch verb {
	case "echo":
		return []byte(rest)
	case "pid":
		return []byte(strconv.Itoa(os.Getpid()))
	case "more":
		return []byte("more")
	case "spin":
		d, _ := time.ParseDuration(rest)
		for end := processorTime() + d; processorTime() < end; {
		}
		return []byte("spun")
	case "tick":
		for range 40 {
			Tick()
			for end := processorTime() + 10*time.Millisecond; processorTime() < end; {
			}
		}
		return []byte("ticked")
	case "sleep":
		time.Sleep(time.Hour)
	case "keep", "allocate":
		n, _ := strconv.Atoi(rest)
		b := make([]byte, n)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		if verb == "keep" {
			h.kept = append(h.kept, b)
		}
		return []byte("allocated")
	case "retire":
		h.retire = true
		return []byte("retiring")
	case "stack":
		SetMark(42)
		return fmt.Append(nil, deep(0))
	case "exit":
		os.Exit(7)
	case "garbage":
		_, _ = os.NewFile(1, "").WriteString(strings.Repeat("garbage ", 100))
		time.Sleep(time.Hour)
	case "long":
		n, _ := strconv.Atoi(rest)
		return make([]byte, n)
	case "environment":
		return []byte(h.environment())
	}
	return nil
}

//go:noinline
func deep(n int) int {
	if n < 0 { // never
		return 0
	}
	var frame [128]int
	frame[n%128] = n
	return deep(n+1) + frame[(n+1)%128]
}

// environment reports what a worker can reach.
func (h *testHandler) environment() string {
	var said []string
	_, dial := net.Dial("tcp", "127.0.0.1:1")
	_, udp := net.ListenPacket("udp", "127.0.0.1:0")
	_, file := os.Open("/etc/hostname")
	_, made := os.Create("/tmp/sallyport-worker-was-here")
	_, piped, pipe := os.Pipe()
	_ = piped
	for name, err := range map[string]error{"dial": dial, "listen": udp, "open": file, "create": made, "pipe": pipe} {
		if err == nil || !strings.Contains(err.Error(), "too many open files") {
			said = append(said, fmt.Sprintf("%s: %v", name, err))
		}
	}
	if _, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{}); err == nil {
		said = append(said, "started a program")
	}
	if env := os.Environ(); len(env) != 1 || env[0] != "GOMAXPROCS=1" {
		said = append(said, fmt.Sprintf("environment: %v", env))
	}
	return strings.Join(said, "\n")
}
