//go:build !linux

package main

func isTerminalDescriptor(int) bool { return false }

func foregroundTerminal() bool { return false }
