package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bouncer starts a PgBouncer in front of the server, with the mode of its pool and
// its defaults, for these users, and returns the directory of its socket, whose port
// is 6432. The test is skipped where the machine has no PgBouncer.
func (s *Server) Bouncer(t testing.TB, mode string, users ...string) (socketDirectory string) {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program = "/usr/sbin/pgbouncer"; !isFile(program) {
			t.Skip("no PgBouncer on this machine")
		}
	}
	directory, err := os.MkdirTemp("", "sallyport-bouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	s.configureBouncer(t, directory, mode, users)
	cmd := exec.Command(program, filepath.Join(directory, "pgbouncer.ini"))
	s.setOwner(t, cmd, directory)
	openSocketDirectory(t, s.SocketDirectory())
	log := &tailOf{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	awaitBouncer(t, directory, users[0], log)
	return directory
}

// configureBouncer writes the configuration into a directory.
func (s *Server) configureBouncer(t testing.TB, directory, mode string, users []string) {
	t.Helper()
	var list string
	for _, user := range users {
		list += fmt.Sprintf("%q \"\"\n", user)
	}
	configuration := fmt.Sprintf(`[databases]
* = host=%s port=5432
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = %s
auth_type = trust
auth_file = %s
pool_mode = %s
`, s.SocketDirectory(), directory, filepath.Join(directory, "users"), mode)
	for name, text := range map[string]string{"users": list, "pgbouncer.ini": configuration} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// setOwner makes the command run as the server's user: PgBouncer refuses to run as root.
func (s *Server) setOwner(t testing.TB, cmd *exec.Cmd, directory string) {
	t.Helper()
	info, err := os.Stat(s.SocketDirectory())
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() == int(owner.Uid) {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	if err := os.Chown(directory, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
}

// openSocketDirectory lets other users reach a directory of sockets, and not list the
// directories above it.
func openSocketDirectory(t testing.TB, directory string) {
	t.Helper()
	for _, above := range []string{filepath.Dir(directory), filepath.Dir(filepath.Dir(directory))} {
		info, err := os.Stat(above)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o001 != 0 {
			continue
		}
		if err := os.Chmod(above, info.Mode().Perm()|0o011); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitBouncer waits until a user can connect.
func awaitBouncer(t testing.TB, directory, user string, log *tailOf) {
	t.Helper()
	q := url.Values{"host": {directory}, "port": {"6432"}, "user": {user}, "default_query_exec_mode": {"simple_protocol"}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, "postgres:///postgres?"+q.Encode())
		if err == nil {
			_ = conn.Close(ctx)
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("pgtest: PgBouncer does not answer: %v\n%s", err, log.text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// tailOf keeps the end of what is written.
type tailOf struct{ text []byte }

func (o *tailOf) Write(p []byte) (int, error) {
	o.text = append(o.text, p...)
	o.text = o.text[max(0, len(o.text)-4096):]
	return len(p), nil
}
