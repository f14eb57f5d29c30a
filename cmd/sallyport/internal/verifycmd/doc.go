// Package verifycmd has the commands that verify, export and prove the audit log to
// others: verify, export and evidence.
package verifycmd
