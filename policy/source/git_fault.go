package source

import (
	"fmt"
	"regexp"
	"strings"
)

// harmless are faults of objects with no effect here. git-fsck(1), "fsck.<msg-id>".
//
// The form of names, addresses and times in commits and tags, and leading zeros of modes:
// long-lived repositories have them, and only a new history can correct them.
//
// The items of trees, and the files that control a checkout and submodules: there is
// neither here, and each item is checked where it is listed (see [treeWalk]). As an error
// of the fetch, one such file in the folder of one repository would keep every later
// revision out until the history is rewritten.
var harmless = []string{
	"badDate", "badDateOverflow", "badEmail", "badName", "badTimezone", "missingEmail", "missingNameBeforeEmail",
	"missingSpaceBeforeDate", "missingSpaceBeforeEmail", "missingTaggerEntry", "zeroPaddedDate", "zeroPaddedFilemode",

	"badFilemode", "duplicateEntries", "emptyName", "fullPathname", "hasDot", "hasDotdot", "hasDotgit", "largePathname",
	"nullSha1", "treeNotSorted",
	"gitattributesBlob", "gitattributesLarge", "gitattributesLineLength", "gitattributesMissing", "gitattributesSymlink",
	"gitignoreSymlink", "mailmapSymlink", "symlinkPointsToGitDir", "symlinkTargetBlob", "symlinkTargetLength", "symlinkTargetMissing",
	"gitmodulesBlob", "gitmodulesLarge", "gitmodulesMissing", "gitmodulesName", "gitmodulesParse", "gitmodulesPath",
	"gitmodulesSymlink", "gitmodulesUpdate", "gitmodulesUrl",
}

// gitFault is the kind and the remedy of a failed fetch, by the text of git's error.
type gitFault struct {
	match  *regexp.Regexp
	kind   Kind
	remedy string
}

// gitFaults are looked for in this order. The texts are those of git, curl and
// OpenSSH in the locale C, and of TLS libraries that curl is built with.
var gitFaults = []gitFault{
	// Before the faults of objects: a pack that cannot be written ends in the same words.
	{regexp.MustCompile(`No space left on device|Disk quota exceeded|File too large|Failure writing output to destination`), Unreachable,
		"the disk of data_directory is full: make room there"},
	{regexp.MustCompile(`(?:^|; )(?:error|fatal|remote: error): object [0-9a-f]{40,64}: |fsck error in packed object|unpack-objects failed|index-pack failed.*fsck`), MalformedHistory,
		"an object of the history is malformed: find it with `git fsck` in a clone, correct it with git filter-repo or git replace, and push the branch again; or begin a branch without the old history"},
	{regexp.MustCompile(`returned error: 30[1278]|unable to update url base from redirection|redirect`), Unreachable,
		"the server answers with a redirect, which is not followed: write the address that it redirects to in policy.git.url"},
	{regexp.MustCompile(`returned error: 401|Authentication failed|could not read (?:Username|Password)|terminal prompts disabled`), Unreachable,
		"the server does not accept the credential (401): put a valid token in policy.git.credentials_file, and its user in policy.git.user"},
	{regexp.MustCompile(`returned error: 403`), Unreachable,
		"the credential may not read this repository (403): give it the scope to read repositories, or use one of this repository"},
	{regexp.MustCompile(`returned error: (?:404|410)|[Rr]epository not found|repository '.*' not found`), Unreachable,
		"the server has no such repository (404), or does not show it to this credential: correct policy.git.url, or policy.git.credentials_file"},
	{regexp.MustCompile(`returned error: 429`), Unreachable, "the server limits requests (429): raise policy.git.poll_interval"},
	{regexp.MustCompile(`returned error: 5[0-9][0-9]`), Unreachable, "the server fails: its administrators see why; it is tried again"},
	{regexp.MustCompile(`not valid: is this a git repository|not valid: could not determine hash algorithm|protocol error|bad line length character|invalid server response|expected .*advertisement`), Unreachable,
		"the answer is not Git's, but for instance a login page or a proxy's: open the address in a browser, and correct policy.git.url; Bitbucket's end in .git"},
	{regexp.MustCompile(`SSL certificate problem|certificate verif|server certificate|CAfile|unable to get local issuer|no alternative certificate subject name|SSL: `), Unreachable,
		"the server's certificate is not trusted: name the authority's file in policy.git.ca_file, and the host as its certificate does in policy.git.url"},
	{regexp.MustCompile(`Host key verification failed|host key is known|REMOTE HOST IDENTIFICATION`), Unreachable,
		"the server's ssh key is not in policy.git.known_hosts_file: add it there, from a source that you trust"},
	{regexp.MustCompile(`Permission denied \(|Load key|invalid format|UNPROTECTED PRIVATE KEY`), Unreachable,
		"the server does not accept the ssh key: name a private key without a passphrase, mode 0600, in policy.git.ssh_key_file, and add its public half as an access key of the repository"},
	{regexp.MustCompile(`Could not resolve|Name or service not known|Temporary failure in name resolution`), Unreachable,
		"the host's name is not known: correct policy.git.url, or this machine's resolver"},
	{regexp.MustCompile(`Connection refused|Failed to connect|Couldn't connect|Connection timed out|No route to host|Network is unreachable|Operation timed out|Connection reset|Empty reply`), Unreachable,
		"nothing answers there: is the address right, does the server run, and is there a firewall in between?"},
	{regexp.MustCompile(`bad object|object file .* is empty|loose object .* is corrupt|unable to read tree|inflate: data stream error|not a git repository`), Unreachable,
		"the copy in data_directory is damaged: end the server, remove that folder, and start again; it is fetched again"},
}

// explainFetch adds to a fetch's error what it means and what to do.
func explainFetch(err error) error {
	text := err.Error()
	for _, f := range gitFaults {
		if !f.match.MatchString(text) {
			continue
		}
		err = fmt.Errorf("fetch: %w: %s", err, f.remedy)
		if f.kind != Unreachable {
			return &Refusal{Kind: f.kind, Err: err}
		}
		return err
	}
	return fmt.Errorf("fetch: %w: the log of the server, or `git ls-remote` with the same URL, shows more", err)
}

// fsckSettings make a fetch check every object, but for what is harmless.
func fsckSettings(harmless []string) [][2]string {
	settings := [][2]string{{"transfer.fsckObjects", "true"}, {"fetch.fsckObjects", "true"}}
	for _, id := range harmless {
		settings = append(settings, [2]string{"fetch.fsck." + strings.ToLower(id), "ignore"})
	}
	return settings
}
