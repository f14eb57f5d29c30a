package worker

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pageBytes is the size of the page that a pool shares with a worker.
const pageBytes = 4096

// newPage makes a page of shared memory and the file that a worker maps it from.
func newPage() (*page, *os.File, error) {
	fd, err := unix.MemfdCreate("sallyport-policy-worker", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("create shared memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "shared page")
	if err := unix.Ftruncate(fd, pageBytes); err != nil {
		_ = file.Close()
		return nil, nil, fmt.Errorf("size shared memory: %w", err)
	}
	p, err := mapPage(fd)
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return p, file, nil
}

func mapPage(fd int) (*page, error) {
	memory, err := unix.Mmap(fd, 0, pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	return &page{memory: memory}, nil
}

// unmap releases the memory. The page must not be read afterwards.
func (p *page) unmap() { _ = unix.Munmap(p.memory) }
