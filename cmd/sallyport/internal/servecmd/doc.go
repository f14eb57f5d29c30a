// Package servecmd has the commands that run and maintain the server: serve, health and
// migrate.
package servecmd
