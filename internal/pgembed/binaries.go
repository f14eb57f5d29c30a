package pgembed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// BinariesVariable is the environment variable that names the directory with
// the PostgreSQL programs to use.
const BinariesVariable = "SALLYPORT_POSTGRES_BIN"

// oldestMajor is the oldest PostgreSQL that we start: older ones have no
// support any more, and their initdb lacks options that we give.
const oldestMajor = 14

// SharedCache is where `make postgresql`, run as root on a machine without
// apt, puts the binaries: in a place that the server's unprivileged user can
// read, which root's own cache directory is not.
const SharedCache = "/var/cache/sallyport/postgresql"

// Binaries is one usable set of PostgreSQL programs.
type Binaries struct {
	Directory string // absolute, symbolic links resolved; holds initdb and postgres
	Version   string // as "15.18" or "18.4"
	Major     int    // as 15 or 18
}

// Find returns the PostgreSQL programs that Start would use. explicit is the
// operator's directory and may be empty. With a directory that was named,
// by explicit or by $SALLYPORT_POSTGRES_BIN, only that one is tried.
//
// The places, in order: explicit, $SALLYPORT_POSTGRES_BIN, $PATH,
// /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, Homebrew, our own cache, the
// shared cache. A candidate counts only if it holds both initdb and postgres
// and both run as the user that the server would run as.
func Find(ctx context.Context, explicit string) (Binaries, error) {
	as, err := defaultAccount()
	if err != nil {
		return Binaries{}, err
	}
	return find(ctx, explicit, as)
}

func find(ctx context.Context, explicit string, as account) (Binaries, error) {
	for _, named := range []struct{ by, directory string }{
		{"the configured PostgreSQL directory", explicit},
		{"$" + BinariesVariable, os.Getenv(BinariesVariable)},
	} {
		if named.directory == "" {
			continue
		}
		found, err := inspect(ctx, named.directory, as)
		if err != nil {
			return Binaries{}, fmt.Errorf("pgembed: %s does not work: %w", named.by, err)
		}
		return found, nil
	}
	var rejected []error
	for _, directory := range candidates() {
		found, err := inspect(ctx, directory, as)
		if err == nil {
			return found, nil
		}
		if ctx.Err() != nil {
			return Binaries{}, fmt.Errorf("pgembed: looking for PostgreSQL: %w", ctx.Err())
		}
		if !errors.Is(err, os.ErrNotExist) {
			rejected = append(rejected, err)
		}
	}
	return Binaries{}, notFoundError{as: as, rejected: rejected}
}

// notFoundError contains the two commands that install PostgreSQL.
type notFoundError struct {
	as       account
	rejected []error
}

func (e notFoundError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pgembed: no PostgreSQL %d or newer found that user %q can run; "+
		"install one with `apt-get install postgresql` (as root) or `make postgresql` (any user), "+
		"or name its bin directory in $%s", oldestMajor, e.as.name, BinariesVariable)
	for _, err := range e.rejected {
		fmt.Fprintf(&b, "; not usable: %v", err)
	}
	return b.String()
}

// candidates are the directories to try, best first, without repetition.
func candidates() []string {
	var list []string
	add := func(directory string) {
		if directory, err := filepath.EvalSymlinks(directory); err == nil && !slices.Contains(list, directory) {
			list = append(list, directory)
		}
	}
	for _, directory := range filepath.SplitList(os.Getenv("PATH")) {
		// A link in PATH (/usr/local/bin/postgres) leads to the directory in
		// which the other programs and the shared files are.
		if program, err := filepath.EvalSymlinks(filepath.Join(directory, "postgres")); err == nil && filepath.IsAbs(program) {
			add(filepath.Dir(program))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
	} {
		for _, directory := range newestFirst(pattern) {
			add(directory)
		}
	}
	if cache, err := os.UserCacheDir(); err == nil {
		add(filepath.Join(cache, "sallyport", "postgresql", "bin"))
	}
	add(filepath.Join(SharedCache, "bin"))
	return list
}

// newestFirst expands a pattern whose star stands for, or ends in, a version.
func newestFirst(pattern string) []string {
	found, _ := filepath.Glob(pattern) // the only error is a malformed pattern
	slices.SortStableFunc(found, func(a, b string) int { return majorIn(b) - majorIn(a) })
	return found
}

// majorIn is the number at the end of the parent directory's name.
func majorIn(bin string) int {
	name := filepath.Base(filepath.Dir(bin))
	digits := name[strings.LastIndexFunc(name, func(r rune) bool { return r < '0' || r > '9' })+1:]
	major, _ := strconv.Atoi(digits) // no number sorts last
	return major
}

// inspect runs the programs of a directory, as the server's user: that finds
// a missing library, a missing share directory and an unreachable path alike.
func inspect(ctx context.Context, directory string, as account) (Binaries, error) {
	directory, err := filepath.Abs(directory)
	if err != nil {
		return Binaries{}, err
	}
	if directory, err = filepath.EvalSymlinks(directory); err != nil {
		return Binaries{}, err
	}
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(directory, program)); err != nil {
			return Binaries{}, err
		}
	}
	found := Binaries{Directory: directory}
	output, err := found.run(ctx, as, "postgres", "--version")
	if err != nil {
		return Binaries{}, err
	}
	if found.Version, found.Major, err = parseVersion(output); err != nil {
		return Binaries{}, fmt.Errorf("%s: %w", filepath.Join(directory, "postgres"), err)
	}
	if found.Major < oldestMajor {
		return Binaries{}, fmt.Errorf("%s is PostgreSQL %s; %d is the oldest that works", directory, found.Version, oldestMajor)
	}
	shown, err := found.run(ctx, as, "initdb", "--show", "--pgdata", "/")
	if err != nil {
		return Binaries{}, err
	}
	for line := range strings.Lines(shown) {
		if bki, ok := strings.CutPrefix(strings.TrimSpace(line), "POSTGRES_BKI="); ok {
			if _, err := os.Stat(bki); err != nil {
				return Binaries{}, fmt.Errorf("%s is not a whole installation: %w", directory, err)
			}
		}
	}
	return found, nil
}

// ask runs a program that only prints something.
func (b Binaries) run(ctx context.Context, as account, program string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(b.Directory, program), arguments...)
	command.Dir, command.Env = "/", b.environment()
	command.SysProcAttr = as.attributes()
	output, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s as user %q: %w: %s", command.Path, as.name, err, strings.TrimSpace(string(output)))
	}
	return string(output), nil
}

// environment is all that the programs get of one: no PG* variable of the
// caller's may point the server somewhere else.
func (b Binaries) environment() []string {
	env := []string{"LC_ALL=C", "PATH=" + b.Directory + ":/usr/bin:/bin"}
	root := filepath.Dir(b.Directory)
	// The npm package carries its libraries, and they find each other only so.
	if _, err := os.Stat(filepath.Join(root, "pg-symlinks.json")); err == nil {
		env = append(env, "LD_LIBRARY_PATH="+filepath.Join(root, "lib"))
	}
	return env
}

// parseVersion reads what `postgres --version` prints:
// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func parseVersion(output string) (version string, major int, err error) {
	_, rest, ok := strings.Cut(output, "(PostgreSQL) ")
	if fields := strings.Fields(rest); ok && len(fields) > 0 {
		version = fields[0]
		digits := version
		if end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = version[:end] // also of "19beta1"
		}
		if major, err = strconv.Atoi(digits); err == nil {
			return version, major, nil
		}
	}
	return "", 0, fmt.Errorf("cannot read a PostgreSQL version from %q", strings.TrimSpace(output))
}

// Psql returns the path of psql: beside the server's programs, else in $PATH,
// else in a Debian or Red Hat place. The npm package has none, so that with it
// the machine's own psql is needed; any version talks to any server.
func Psql(ctx context.Context, explicit string) (string, error) {
	var tried []string
	if found, err := Find(ctx, explicit); err == nil {
		tried = append(tried, filepath.Join(found.Directory, "psql"))
	}
	if path, err := exec.LookPath("psql"); err == nil {
		tried = append(tried, path)
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		for _, directory := range newestFirst(pattern) {
			tried = append(tried, filepath.Join(directory, "psql"))
		}
	}
	for _, path := range tried {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errors.New("pgembed: no psql found; install one with `apt-get install postgresql-client` (the PostgreSQL that `make postgresql` unpacks brings none)")
}
