package doctor

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// toolFiles are the files, below the home directory, in which tools keep a proxy.
var toolFiles = []string{
	".gitconfig", ".config/git/config", ".npmrc", ".yarnrc", ".yarnrc.yml", ".bunfig.toml", ".curlrc", ".wgetrc",
	".m2/settings.xml", ".gradle/gradle.properties", ".docker/config.json",
	".config/pip/pip.conf", ".pip/pip.conf", ".config/uv/uv.toml", ".cargo/config.toml", ".condarc", ".gemrc", ".bundle/config",
	".nuget/NuGet/NuGet.Config",
}

// maxFile bounds what is read of a file, in bytes.
const maxFile = 1 << 20

// urlWithCredential finds a proxy's URL with a password on a line about a proxy.
var urlWithCredential = regexp.MustCompile(`(?i)proxy[^\n]*https?://[^\s/:@"]+:[^\s/@"]+@`)

// checkFiles finds tokens and credentials in the files of tools.
func (x *examination) checkFiles() {
	if x.Home == "" {
		x.add("files", Skipped, "the step has no home directory", "")
		return
	}
	before := len(x.checks)
	read := 0
	for _, name := range toolFiles {
		text, err := readBounded(filepath.Join(x.Home, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			x.warn("files", "check the file's permissions", "~/%s cannot be read", name)
			continue
		}
		read++
		switch {
		case !x.secret.IsZero() && strings.Contains(text, x.secret.Reveal()):
			x.fail("files", "remove the token from the file, and run sallyport-step start", "~/%s contains the token: caches and artifacts can keep it", name)
		case urlWithCredential.MatchString(text):
			x.warn("files", "remove the proxy from the file, and run sallyport-step start", "~/%s contains the URL of a proxy with a credential, which takes precedence over the variables", name)
		}
	}
	if len(x.checks) == before {
		x.ok("files", "no file of a tool contains a credential of a proxy; files read: %d", read)
	}
}

func readBounded(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fs.ErrNotExist // a pipe would wait for its writer
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(text), err
}
