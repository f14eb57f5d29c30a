package proxy

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// relay moves bytes from src to dst until one of them is done. Between two bare
// TCP connections a direction that waits holds neither a buffer nor a pipe;
// small messages are copied, and a stream that fills the buffer is spliced
// through a pipe, so that its bytes never enter this process (splice(2)).
func (t *tunnel) relay(dst, src net.Conn, d *meter) ending {
	to, ok1 := dst.(*net.TCPConn)
	from, ok2 := src.(*net.TCPConn)
	if !ok1 || !ok2 {
		return t.relayBuffered(dst, src, d)
	}
	in, err := from.SyscallConn()
	if err != nil {
		return ending{err: err}
	}
	m := &mover{t: t, d: d, to: to}
	defer m.release()
	fill := m.fill // one closure for all turns
	for {
		if err := in.Read(fill); err != nil {
			return ending{err: err}
		}
		if end, done := m.pass(); done {
			return end
		}
	}
}

const (
	spliceMove     = 1
	spliceNonblock = 2
	// spliceMax is the requested capacity of a pipe. The kernel grants an ordinary
	// user 64 MiB of pipes at their full size (pipe-user-pages-soft in pipe(7)).
	spliceMax = 256 << 10
)

// mover carries one direction. pass sends what fill has read.
type mover struct {
	t  *tunnel
	d  *meter
	to *net.TCPConn

	splicing bool // the last turn filled the buffer: a stream, worth a pipe
	noSplice bool // the kernel cannot splice this connection
	pipe     *pipe
	out      syscall.RawConn // of to, once something was spliced
	drain    func(fd uintptr) bool
	buf      *[]byte
	n        int // bytes that fill has read
	granted  int // those of them that the limits permit
	unsent   int // those granted that the pipe still holds
	err      error
}

// fill reads what has arrived. It returns false if nothing has, to be called
// again when the source is readable; until then it holds no buffer.
func (m *mover) fill(fd uintptr) (done bool) {
	allowed := m.d.allowance(spliceMax)
	if m.splicing && allowed > 0 {
		if m.spliceIn(int(fd), allowed) {
			return true
		}
		if m.splicing {
			return false
		}
	}
	return m.readIn(int(fd), allowed)
}

func (m *mover) readIn(fd, allowed int) bool {
	m.buf = buffers.Get().(*[]byte)
	for {
		m.n, m.err = syscall.Read(fd, (*m.buf)[:min(len(*m.buf), max(allowed, 1))])
		if m.err != syscall.EINTR {
			break
		}
	}
	if m.err == syscall.EAGAIN {
		m.releaseBuffer()
		return false
	}
	m.splicing = m.n == len(*m.buf) && !m.noSplice
	return true
}

// spliceIn moves what has arrived into a pipe. It returns true if there is something to
// forward; otherwise splicing is true if the caller must wait, and false if it must read.
func (m *mover) spliceIn(fd, allowed int) bool {
	if m.pipe == nil {
		if m.pipe = acquirePipe(); m.pipe == nil {
			m.splicing = false
			return false
		}
	}
	for {
		n, err := syscall.Splice(fd, nil, m.pipe.w, nil, allowed, spliceMove|spliceNonblock)
		switch err {
		case nil:
			m.n, m.err = int(n), nil
			m.pipe.held = int(n)
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			// The stream pauses: the next message may be a small one again.
			m.releasePipe()
			m.splicing = false
			return false
		case syscall.EINVAL, syscall.ENOSYS:
			m.releasePipe()
			m.splicing, m.noSplice = false, true
			return false
		default:
			m.n, m.err = 0, err
			return true
		}
	}
}

// pass forwards what fill has read, and reports whether the direction is over.
func (m *mover) pass() (ending, bool) {
	switch {
	case m.err != nil:
		return ending{err: m.err}, true
	case m.n == 0:
		return ending{}, true
	}
	if m.granted = m.d.reserve(m.n); m.granted == 0 {
		return ending{limit: true}, true
	}
	m.t.touch()
	if m.pipe != nil && m.pipe.held > 0 {
		return m.spliceOut()
	}
	n, err := m.to.Write((*m.buf)[:m.granted])
	m.d.unreserve(m.granted - n)
	m.releaseBuffer()
	if err != nil {
		return ending{err: err, wrote: true}, true
	}
	return ending{limit: m.granted < m.n}, m.granted < m.n
}

func (m *mover) spliceOut() (ending, bool) {
	if m.out == nil {
		out, err := m.to.SyscallConn()
		if err != nil {
			return ending{err: err, wrote: true}, true
		}
		m.out, m.drain = out, m.drainPipe
	}
	m.unsent = m.granted
	err := m.out.Write(m.drain)
	m.d.unreserve(m.unsent)
	if err == nil {
		err = m.err
	}
	if err != nil {
		return ending{err: err, wrote: true}, true
	}
	return ending{limit: m.granted < m.n}, m.granted < m.n
}

// drainPipe sends what was granted of what the pipe holds. It returns false when the destination
// accepts no more at present.
func (m *mover) drainPipe(fd uintptr) (done bool) {
	for m.unsent > 0 {
		n, err := syscall.Splice(m.pipe.r, nil, int(fd), nil, m.unsent, spliceMove|spliceNonblock)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return false
		case err == nil && n == 0:
			m.err = io.ErrUnexpectedEOF
			return true
		case err != nil:
			m.err = err
			return true
		default:
			m.pipe.held -= int(n)
			m.unsent -= int(n)
			m.t.touch() // a slow reader is not an idle one
		}
	}
	return true
}

func (m *mover) releaseBuffer() {
	if m.buf != nil {
		buffers.Put(m.buf)
		m.buf = nil
	}
}

func (m *mover) releasePipe() {
	if m.pipe != nil {
		m.pipe.recycle()
		m.pipe = nil
	}
}

func (m *mover) release() {
	m.releaseBuffer()
	m.releasePipe()
}

// pipe is a kernel buffer between two splices.
type pipe struct {
	r, w int
	held int // bytes in it
}

// pipes holds empty ones for the next stream.
var pipes = make(chan *pipe, 64)

// acquirePipe returns an empty pipe, or nil if the kernel grants none.
func acquirePipe() *pipe {
	select {
	case p := <-pipes:
		return p
	default:
	}
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil
	}
	// A larger pipe means fewer turns. The kernel may refuse one to an ordinary
	// user who has many; the default size works as well.
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[1]), syscall.F_SETPIPE_SZ, spliceMax)
	return &pipe{r: fds[0], w: fds[1]}
}

// recycle keeps an empty pipe for the next stream, and closes one that still holds
// bytes: those belong to one tunnel alone.
func (p *pipe) recycle() {
	if p.held == 0 {
		select {
		case pipes <- p:
			return
		default:
		}
	}
	p.close()
}

func (p *pipe) close() {
	_ = syscall.Close(p.r)
	_ = syscall.Close(p.w)
}

// closeIdlePipes closes the pipes that no stream uses.
func closeIdlePipes() {
	for {
		select {
		case p := <-pipes:
			p.close()
		default:
			return
		}
	}
}

// undelivered is how many bytes the kernel holds that the peer has not acknowledged
// (SIOCOUTQ in tcp(7)); 0 where the number is unknown, or nothing more is sent.
func undelivered(conn *net.TCPConn) int {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	var n int32
	const stateClosed = 7 // TCP_CLOSE
	_ = raw.Control(func(fd uintptr) {
		// The first byte of tcp_info is the state; a connection that was reset still
		// counts what it had.
		info, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		if err != nil || info&0xff == stateClosed {
			return
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
			n = 0
		}
	})
	return int(n)
}
