package clientmatrix

import "slices"

// Clients are the clients of the matrix, in the order of the page.
func Clients() []*Client {
	return slices.Concat(webClients, gitClients, javascriptClients, pythonClients, jvmClients, packageClients, otherClients)
}
