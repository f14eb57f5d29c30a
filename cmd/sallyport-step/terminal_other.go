//go:build !linux

package main

func foregroundTerminal() bool { return false }
