package pgembed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the operating system's user that the server runs as.
type account struct {
	name     string
	uid, gid uint32
	switched bool // we are root and become this user
}

// serverUsers are whom root runs a server as, the best first. Tests change it.
var serverUsers = []string{"postgres", "nobody"}

// defaultAccount is who runs a server whose cluster does not exist yet.
func defaultAccount() (account, error) {
	if euid := os.Geteuid(); euid != 0 {
		as := account{name: strconv.Itoa(euid), uid: uint32(euid), gid: uint32(os.Getegid())}
		if found, err := user.LookupId(as.name); err == nil {
			as.name = found.Username
		}
		return as, nil
	}
	for _, name := range serverUsers {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(found.Uid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("pgembed: user %q: %w", name, err)
		}
		gid, err := strconv.ParseUint(found.Gid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("pgembed: user %q: %w", name, err)
		}
		if uid == 0 {
			continue
		}
		return account{name: name, uid: uint32(uid), gid: uint32(gid), switched: true}, nil
	}
	return account{}, errors.New("pgembed: PostgreSQL does not run as root, and there is neither a user \"postgres\" nor \"nobody\" to run it as; start sallyport as an ordinary user")
}

// accountFor is who runs the server of a directory: the owner of its cluster,
// where there is one, so that a cluster keeps its owner when a user "postgres"
// appears later, or when root starts what a user began.
func accountFor(directory string) (account, error) {
	cluster := filepath.Join(directory, "data")
	info, err := os.Stat(cluster)
	if errors.Is(err, fs.ErrNotExist) {
		return defaultAccount()
	}
	if err != nil {
		return account{}, fmt.Errorf("pgembed: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	euid := uint32(os.Geteuid())
	switch {
	case owner.Uid == 0:
		return account{}, fmt.Errorf("pgembed: %s belongs to root, as which PostgreSQL does not run; give it to a user with `chown -R postgres %s`", cluster, cluster)
	case euid != 0 && owner.Uid != euid:
		return account{}, fmt.Errorf("pgembed: %s belongs to user id %d, and this is user id %d; run as that user, or choose another data_directory", cluster, owner.Uid, euid)
	}
	as := account{name: strconv.FormatUint(uint64(owner.Uid), 10), uid: owner.Uid, gid: owner.Gid, switched: euid == 0}
	if found, err := user.LookupId(as.name); err == nil {
		as.name = found.Username
	}
	return as, nil
}

// own makes a directory of mode 0700 that belongs to the account.
func (a account) own(directory string) error {
	if err := os.Mkdir(directory, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("pgembed: %w", err)
	}
	info, err := os.Lstat(directory)
	if err != nil {
		return fmt.Errorf("pgembed: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("pgembed: %s is not a directory; move it away", directory)
	}
	if a.switched {
		if err := os.Lchown(directory, int(a.uid), int(a.gid)); err != nil {
			return fmt.Errorf("pgembed: %w", err)
		}
	}
	if err := os.Chmod(directory, 0o700); err != nil {
		return fmt.Errorf("pgembed: %w", err)
	}
	return nil
}

// attributes are those of a child that runs as the account, in a process group
// of its own: a Ctrl-C in the terminal is ours to handle, not the server's.
func (a account) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if a.switched {
		attributes.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: []uint32{a.gid}}
	}
	return attributes
}
