package auditcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/durable"
)

// followPlace is where a follower has come to, in a file. One process at a time
// has it.
type followPlace struct {
	path string
	lock *os.File
	next int64      // the leaf that is handed on next
	hash audit.Hash // of the one before
}

// followPlaceFile is what is in the file.
type followPlaceFile struct {
	Next int64      `json:"next"`
	Hash audit.Hash `json:"hash"`
}

// openFollowPlace reads the file; where there is none, it begins with the first leaf.
func openFollowPlace(path string) (*followPlace, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, cli.Invalid(fmt.Errorf("--position: %w", err))
	}
	p := &followPlace{path: path, lock: lock}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		p.close()
		return nil, fmt.Errorf("another process follows the log with the position %s", path)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	var values followPlaceFile
	if err == nil {
		err = json.Unmarshal(text, &values)
	}
	if err == nil && values.Next < 1 {
		err = fmt.Errorf("next is %d", values.Next)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("%s has no valid position: %w; remove the file to stream the log from its beginning", path, err)
	}
	p.next, p.hash = values.Next, values.Hash
	return p, nil
}

func (p *followPlace) close() { _ = p.lock.Close() }

// check holds the place against the log: what was handed on is still its
// beginning.
func (p *followPlace) check(ctx context.Context, from *auditreader.Follower) error {
	if p.next == 0 {
		return nil
	}
	hash, ok, err := from.Leaf(ctx, p.next-1)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%s has followed the log up to leaf %d, and the log does not have it: it was restored from a backup, or its end was cut off; `sallyport audit verify` with a checkpoint from outside shows which", p.path, p.next-1)
	case hash != p.hash:
		return fmt.Errorf("%s has followed another log: its leaf %d is not the one that was handed on", p.path, p.next-1)
	}
	return nil
}

// save makes the place durable, whole or not at all.
func (p *followPlace) save() error {
	text, err := json.Marshal(followPlaceFile{p.next, p.hash})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(p.path, text, []byte{'\n'}); err != nil {
		return fmt.Errorf("keep the position: %w", err)
	}
	return nil
}
