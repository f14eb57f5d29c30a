package postgres

// maxText bounds a text that is stored, in bytes; the tables check the same.
// PostgreSQL refuses a text of about 2,700 bytes under an index (SQLSTATE
// 54000), so that one must not get as far.
const maxText = 1000
