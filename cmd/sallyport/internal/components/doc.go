// Package components makes the parts of Sallyport from the configuration, for the server
// and for the commands that use the same parts.
package components
