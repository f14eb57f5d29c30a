// Package auditdb connects commands to the audit log's database: the flags that name it,
// the roles, the embedded database, and files that are recorded as exports.
package auditdb
