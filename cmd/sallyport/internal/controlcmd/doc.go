// Package controlcmd has the commands that control a running instance through its control
// socket, and token inspect.
package controlcmd
