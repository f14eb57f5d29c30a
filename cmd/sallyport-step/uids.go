package main

import (
	"fmt"
	"strconv"
	"strings"
)

// maxUID is the highest user id: the next one is "no change" of chown(2).
const maxUID = 1<<32 - 2

// uids is the value of --allow-uid: user ids, separated by commas.
type uids struct{ list *[]uint }

func (u *uids) Type() string { return "ID" }

func (u *uids) String() string {
	if u.list == nil || len(*u.list) == 0 {
		return ""
	}
	return strings.Trim(fmt.Sprint(*u.list), "[]")
}

func (u *uids) Set(given string) error {
	for text := range strings.SplitSeq(given, ",") {
		uid, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
		if err != nil || uid > maxUID {
			return fmt.Errorf("%q is not the id of a user: write its number, which id -u USER prints", text)
		}
		*u.list = append(*u.list, uint(uid))
	}
	return nil
}
