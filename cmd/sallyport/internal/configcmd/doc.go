// Package configcmd has the commands for the configuration: config check, with and
// without connecting.
package configcmd
