package frontend

import (
	"strconv"
	"time"
)

// writeOwn writes a response of a resource of this proxy itself, and lingers until the
// client has read it.
func (c *conn) writeOwn(kind string, content []byte, head bool) {
	b := append([]byte("HTTP/1."), byte('0'+c.minor))
	b = append(b, " 200 OK"...)
	b = appendField(b, "Content-Type", kind)
	b = appendField(b, "Content-Length", strconv.Itoa(len(content)))
	b = append(b, "\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"...)
	if !head {
		b = append(b, content...)
	}
	c.writeAndLinger(b)
}

// writeNoContent writes a response without content.
func (c *conn) writeNoContent() {
	b := append([]byte("HTTP/1."), byte('0'+c.minor))
	c.writeAndLinger(append(b, " 204 No Content\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"...))
}

func (c *conn) writeAndLinger(b []byte) {
	if c.stream.SetWriteDeadline(time.Now().Add(c.server.config.WriteTimeout)) != nil {
		return
	}
	if _, err := c.stream.Write(b); err == nil {
		c.linger()
	}
}
