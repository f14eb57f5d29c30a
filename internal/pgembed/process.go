package pgembed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// firstInherited is the number that a child's first extra descriptor has.
const firstInherited = 3

// inheritance is what a child of ours gets beside its arguments.
type inheritance struct {
	files []*os.File // the server lock, then the opened directories
	paths []string   // the directories, as the child names them
}

// inherit prepares directories for a child. A child that root starts as
// another user enters them by descriptor, where the system can do that.
func (s *Server) inherit(directories ...string) (inheritance, error) {
	inherited := inheritance{files: []*os.File{s.serverLock}}
	for _, directory := range directories {
		path, ok := descriptorPath(firstInherited + len(inherited.files))
		if !s.as.switched || !ok {
			inherited.paths = append(inherited.paths, directory)
			continue
		}
		opened, err := os.Open(directory)
		if err != nil {
			inherited.close()
			return inheritance{}, fmt.Errorf("pgembed: %w", err)
		}
		inherited.files = append(inherited.files, opened)
		inherited.paths = append(inherited.paths, path)
	}
	return inherited, nil
}

// close closes the directories; the lock stays with the Server.
func (i inheritance) close() {
	for _, file := range i.files[1:] {
		file.Close()
	}
}

// process is a running child. err may be read once done is closed.
type process struct {
	command *exec.Cmd
	log     *logWriter
	done    chan struct{}
	err     error
}

// spawn starts one of the programs. The kernel ties the child to the thread
// that forks it, so that thread belongs to the goroutine that waits for the
// child, and lives as long as it.
func (s *Server) spawn(program string, arguments []string, inherited inheritance, atDeath syscall.Signal) (*process, error) {
	log := newLogWriter(s.config.Logger)
	command := exec.Command(filepath.Join(s.binaries.Directory, program), arguments...)
	command.Dir, command.Env = "/", s.binaries.environment()
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = inherited.files
	command.SysProcAttr = s.as.attributes()
	command.WaitDelay = time.Second // backends of a killed postmaster hold the pipe a little longer
	dieWithParent(command.SysProcAttr, atDeath)

	child := &process{command: command, log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err != nil {
			return
		}
		if err := command.Wait(); !errors.Is(err, exec.ErrWaitDelay) {
			child.err = err
		}
		close(child.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("pgembed: starting %s as user %q: %w", program, s.as.name, err)
	}
	return child, nil
}

func (p *process) signal(signal syscall.Signal) error {
	return p.command.Process.Signal(signal)
}
