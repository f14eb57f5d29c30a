package forwarder

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/step/peeruid"
	"github.com/sallyport/sallyport/step/upstream"
)

// Users returns a function for Config.Admit: it admits the user of this process, root, the
// user _apt if this process runs as root (apt's download methods drop to it), and the
// given users.
func Users(more ...uint32) func(uid uint32) bool {
	own := uint32(os.Getuid())
	admitted := append([]uint32{own, 0}, more...)
	if own == 0 {
		if u, err := user.Lookup("_apt"); err == nil {
			if id, err := strconv.ParseUint(u.Uid, 10, 32); err == nil {
				admitted = append(admitted, uint32(id))
			}
		}
	}
	return func(uid uint32) bool { return slices.Contains(admitted, uid) }
}

// Admit reports whether the user of a connection to another listener of the step may use
// the forwarder, such as a forwarded port. A refusal is counted and printed as one of the
// forwarder's own listeners. Admit reads nothing.
func (f *Forwarder) Admit(c net.Conn) bool {
	r := f.admitUser(c)
	if r != nil && !(r.Target == unknownUser && peeruid.Abandoned(c)) {
		f.refused(*r)
	}
	return r == nil
}

// unknownUser names a peer whose user is not known.
const unknownUser = "an unknown user"

// admitUser returns nil if a peer's user may use the forwarder.
func (f *Forwarder) admitUser(c net.Conn) *Refusal {
	uid, err := f.config.peerUID(c)
	switch {
	case err != nil:
		return notAdmitted(unknownUser, err.Error())
	case !f.config.Admit(uid):
		return notAdmitted(fmt.Sprintf("user %d", uid), "this user may not use the step's forwarder")
	}
	return nil
}

// admitNetwork returns nil if a peer is in a network of the containers. The bridge has an
// address of this machine, from which every user of this machine can connect: such a peer
// is admitted by its user.
func (f *Forwarder) admitNetwork(c net.Conn, networks []netip.Prefix) *Refusal {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return notAdmitted("an unknown address", "not a TCP connection")
	}
	address := a.AddrPort().Addr().Unmap().WithZone("")
	if !slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(address) }) {
		return notAdmitted("address "+address.String(), "the address is not in a network of the containers")
	}
	if f.config.ownAddress(address) {
		return f.admitUser(c)
	}
	return nil
}

// ownAddress reports whether an address is of this machine, as far as its network
// namespace has it. It is true if this cannot be determined.
func ownAddress(address netip.Addr) bool {
	if address.IsLoopback() {
		return true
	}
	own, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(own, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err != nil || prefix.Addr().Unmap().WithZone("") == address
	})
}

func notAdmitted(who, why string) *Refusal {
	return connectionRefusal(who, local(http.StatusForbidden, peerNotAdmitted, why,
		"run the tool as the user that started the forwarder, or admit its user with --allow-uid"))
}

// connectionRefusal is a refusal of a connection as a whole. It is printed once for each
// cause.
func connectionRefusal(who string, r *upstream.Refusal) *Refusal {
	return &Refusal{Action: actionConnection, Target: who, Refusal: *r}
}
