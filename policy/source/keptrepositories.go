package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/policy"
)

// The rules of an earlier revision that repositories keep are in a file of their own
// beside the policy: a line of JSON, and the parts that it lists. What several
// repositories share is there once. Each part has the form and the digest of a
// snapshot's content.

// maxKeptRepositories bounds the file, in bytes.
const maxKeptRepositories = 64 << 20

// repositoriesHead is the file's first line.
type repositoriesHead struct {
	Format       int              `json:"format"`
	Shared       []keptPart       `json:"shared"`
	Repositories []keptRepository `json:"repositories"`
}

// keptPart is a part of the file.
type keptPart struct {
	Digest string `json:"digest"`
	Size   int    `json:"size"` // in bytes
}

type keptRepository struct {
	keptPart
	Repository string `json:"repository"`
	Revision   string `json:"revision"`
	Commit     string `json:"commit,omitempty"`
	SharedPart int    `json:"shared"` // index
}

// saveRepositories replaces the file, or removes it if the list is empty. What does not
// fit is left out, and the error reports it.
func saveRepositories(path string, list []policy.KeptRepository) error {
	if len(list) == 0 {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	head := repositoriesHead{Format: keptFormat}
	var shared, own [][]byte
	at := map[*policy.File]int{}
	size, left := 0, 0
	for _, r := range list {
		part, content, err := partOf(r.Files)
		if err != nil {
			return err
		}
		index, known := 0, false
		if len(r.Shared) > 0 {
			index, known = at[&r.Shared[0]]
		}
		needs := len(content)
		var sharedPart keptPart
		var sharedContent []byte
		if !known {
			if sharedPart, sharedContent, err = partOf(r.Shared); err != nil {
				return err
			}
			needs += len(sharedContent)
		}
		if size+needs > maxKeptRepositories {
			left++
			continue
		}
		size += needs
		if !known {
			index = len(shared)
			shared, head.Shared = append(shared, sharedContent), append(head.Shared, sharedPart)
			if len(r.Shared) > 0 {
				at[&r.Shared[0]] = index
			}
		}
		own = append(own, content)
		head.Repositories = append(head.Repositories, keptRepository{part, r.Repository, r.Revision.Digest, r.Revision.Commit, index})
	}
	line, err := json.Marshal(head)
	if err != nil {
		return err
	}
	contents := append([][]byte{line, {'\n'}}, append(shared, own...)...)
	if err := durable.Replace(path, time.Now(), contents...); err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("the rules that %d repositories keep are over %d bytes: they are denied after a restart until their folders are repaired", left, maxKeptRepositories)
	}
	return nil
}

func partOf(files []policy.File) (keptPart, []byte, error) {
	s, err := policy.NewSnapshot(files, "")
	if err != nil {
		return keptPart{}, nil, err
	}
	content := s.Content()
	return keptPart{s.Digest, len(content)}, content, nil
}

// parseRepositories reads the file. Each part must have its digest.
func parseRepositories(text []byte) ([]policy.KeptRepository, error) {
	line, rest, ok := bytes.Cut(text, []byte{'\n'})
	if !ok {
		return nil, errors.New("its first line does not end")
	}
	var head repositoriesHead
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, fmt.Errorf("its first line: %w", err)
	}
	if head.Format != keptFormat {
		return nil, fmt.Errorf("its format is %d, and this program reads %d", head.Format, keptFormat)
	}
	next := func(p keptPart) ([]policy.File, error) {
		if p.Size < 0 || p.Size > len(rest) {
			return nil, errors.New("it is cut off")
		}
		content := rest[:p.Size:p.Size]
		rest = rest[p.Size:]
		s, err := policy.ParseContent(content, "")
		if err != nil {
			return nil, err
		}
		if s.Digest != p.Digest {
			return nil, fmt.Errorf("a part has the digest %s and not %s: it was damaged", s.Digest, p.Digest)
		}
		return s.Files, nil
	}
	shared := make([][]policy.File, len(head.Shared))
	for i, p := range head.Shared {
		var err error
		if shared[i], err = next(p); err != nil {
			return nil, err
		}
	}
	list := make([]policy.KeptRepository, 0, len(head.Repositories))
	for _, r := range head.Repositories {
		files, err := next(r.keptPart)
		if err != nil {
			return nil, err
		}
		if r.SharedPart < 0 || r.SharedPart >= len(shared) {
			return nil, fmt.Errorf("repository %.100q shares part %d of %d", r.Repository, r.SharedPart, len(shared))
		}
		list = append(list, policy.KeptRepository{
			Repository: r.Repository, Revision: policy.Revision{Digest: r.Revision, Commit: r.Commit}, Files: files, Shared: shared[r.SharedPart],
		})
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow the last part", len(rest))
	}
	return list, nil
}
