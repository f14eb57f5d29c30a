package policycmd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/regotext"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

// finish writes the files, once the policy that they make has been tried.
func (s *suggester) finish(ctx context.Context, out io.Writer) error {
	var messages strings.Builder
	files, wanted := s.newFiles(&messages)
	for _, name := range s.only {
		if !slices.ContainsFunc(sortedObserved(s.found), func(o *observed) bool {
			return o.folder == name || strings.Contains(name, "-") && !strings.Contains(name, "/")
		}) {
			fmt.Fprintf(&messages, "%s: the log has not seen it in this time%s\n", name, s.meant(name))
		}
	}
	if len(files) == 0 {
		_, err := io.WriteString(out, messages.String())
		return err
	}
	if !slices.ContainsFunc(s.tree.Files, func(f policy.File) bool { return strings.HasPrefix(f.Path, "egress/") }) {
		files = append(files, policy.File{Path: "egress/" + suggestedFile, Content: []byte(observedOrganisation)})
		fmt.Fprintf(&messages, "the organization had no rules: egress/%s keeps everything in report mode\n", suggestedFile)
	}
	undelegated, err := s.try(ctx, files, wanted)
	if err != nil {
		return err
	}
	for _, folder := range undelegated {
		fmt.Fprintf(&messages, "%s: its rules do not count yet, for nothing delegates to it. Add to egress/:\n  %s\n", folder, s.delegation(folder))
	}
	if s.dry {
		for _, f := range files {
			fmt.Fprintf(out, "-- %s --\n%s", f.Path, f.Content)
		}
	} else if err := writeNew(s.out, files); err != nil {
		return err
	}
	_, err = io.WriteString(out, messages.String())
	return err
}

// newFiles makes a file for each repository for which there is something to suggest, and
// describes each repository in summary. wanted has what was observed, by file.
func (s *suggester) newFiles(summary *strings.Builder) (files []policy.File, wanted map[string]*observed) {
	wanted = map[string]*observed{}
	for _, o := range sortedObserved(s.found) {
		file := s.newFile(o.folder)
		switch n := o.suggested(); {
		case !plainFolder(o.folder):
			fmt.Fprintf(summary, "%s: not a repository name; no file is written for it\n", cmp.Or(o.folder, "a repository without a name"))
		case n == 0 && o.allowed > 0:
			fmt.Fprintf(summary, "%s: needs nothing, all of %d is allowed\n", o.folder, o.allowed)
		case n == 0:
			fmt.Fprintf(summary, "%s: there is nothing to suggest\n", o.folder)
		default:
			files = append(files, policy.File{Path: file, Content: []byte(s.rules(o))})
			wanted[file] = o
			fmt.Fprintf(summary, "%s: %d %s, in %s\n", o.folder, n, map[bool]string{true: "target", false: "targets"}[n == 1], file)
		}
		summary.WriteString(o.strictText())
		if o.waiting > 0 {
			fmt.Fprintf(summary, "%s: its rules allow %d more, and do not count yet, for nothing delegates to it. Add to egress/:\n  %s\n", o.folder, o.waiting, s.delegation(o.folder))
		}
		if o.dropped > 0 {
			fmt.Fprintf(summary, "  it reached more than %d different targets: %s left out\n", maxUses, printable.Count(o.dropped, "decision"))
		}
	}
	return files, wanted
}

// meant names the repository of the log that a name was probably meant to be.
func (s *suggester) meant(name string) string {
	seen := slices.Sorted(maps.Keys(s.others))
	for _, other := range seen {
		if _, repository, ok := strings.Cut(other, "/"); ok && repository == name {
			return ": did you mean " + other + "?"
		}
	}
	if n := nearest.Of(name, seen); n != "" && nearest.Distance(name, n) <= 3 {
		return ": did you mean " + n + "?"
	}
	return ""
}

func (s *suggester) delegation(folder string) string {
	if s.names {
		return fmt.Sprintf(`delegate contains {"rule": "own-rules-of-%s"} if input.principal.repository.full_name == %q`, regotext.RuleID(folder), folder)
	}
	return fmt.Sprintf(`delegate contains {"rule": "own-rules-of-%s"} if input.principal.repository.uuid == %q`, regotext.RuleID(folder), path.Base(folder))
}

// try loads the policy with the new files in it, and asks it again what was
// observed. It returns those repositories to which nothing delegates.
func (s *suggester) try(ctx context.Context, files []policy.File, wanted map[string]*observed) (undelegated []string, err error) {
	together, err := policy.NewSnapshot(append(slices.Clone(s.tree.Files), files...), "")
	if err != nil {
		return nil, err
	}
	set, err := components.LoadPolicy(ctx, "what would be written", together, rego.Options{Names: s.names})
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		o := wanted[f.Path]
		if o == nil {
			continue
		}
		for _, u := range o.uses {
			if u.deny != "" {
				continue
			}
			d, err := set.Replay(ctx, u.input)
			if err != nil {
				return nil, err
			}
			if d.Verdict == policy.Allow && !d.WouldDeny {
				continue
			}
			if d.Reason == policy.NoRuleMatched {
				undelegated = append(undelegated, o.folder)
				break
			}
			return nil, fmt.Errorf("%s: the suggested rules do not allow %s, by %s: nothing is written", o.folder, u.entry(), d.Rule)
		}
	}
	return undelegated, nil
}

func sortedObserved(found map[string]*observed) []*observed {
	list := make([]*observed, 0, len(found))
	for _, o := range found {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b *observed) int { return cmp.Compare(a.folder, b.folder) })
	return list
}
