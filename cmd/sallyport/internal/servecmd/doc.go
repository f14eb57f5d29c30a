// Package servecmd has the commands that run the server and look after it: health and
// migrate.
package servecmd
