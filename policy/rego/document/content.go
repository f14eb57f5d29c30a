package document

import (
	"bytes"
	"strings"
)

// ByteOrderMark is U+FEFF in UTF-8, with which some editors begin a file. It is not
// part of the text.
const ByteOrderMark = "\xef\xbb\xbf"

// CheckContent returns why the bytes of a policy's file are not the text that its author
// wrote, and a remedy; "" for every other file.
func CheckContent(content []byte) (message, remedy string) {
	switch {
	case bytes.HasPrefix(content, []byte("version https://git-lfs.github.com/spec/")):
		return "the file is a pointer of Git LFS and not its content", "keep policy files out of LFS: remove their pattern from .gitattributes, and commit the file again"
	case bytes.HasPrefix(content, []byte("/annex/objects/")), bytes.HasPrefix(content, []byte("../.git/annex/")):
		return "the file is a pointer of git-annex and not its content", "commit the file itself: git annex unannex"
	case bytes.HasPrefix(content, []byte("\xff\xfe")), bytes.HasPrefix(content, []byte("\xfe\xff")):
		return "the file is in UTF-16", "save it as UTF-8"
	case bytes.HasPrefix(content, []byte("PK\x03\x04")), bytes.HasPrefix(content, []byte("\x1f\x8b")):
		return "the file is compressed", "commit its content"
	}
	for _, mark := range []string{"<<<<<<< ", ">>>>>>> "} {
		if bytes.HasPrefix(content, []byte(mark)) || bytes.Contains(content, []byte("\n"+mark)) {
			return "the file has the marks of a merge conflict: " + strings.TrimSpace(mark), "resolve the conflict"
		}
	}
	return "", ""
}
