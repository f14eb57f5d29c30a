package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
)

// containerAddress returns the address at which containers reach the forwarder, and the
// networks of the clients that may use it.
func containerAddress(o options) (netip.Addr, []netip.Prefix, error) {
	interfaces, err := bridges()
	if err != nil {
		return netip.Addr{}, nil, err
	}
	address, err := chooseAddress(o.Docker, os.Getenv("BITBUCKET_DOCKER_HOST_INTERNAL"), interfaces)
	if err != nil {
		return netip.Addr{}, nil, err
	}
	var networks []netip.Prefix
	for _, network := range o.DockerNetworks {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			return netip.Addr{}, nil, err
		}
		networks = append(networks, prefix.Masked())
	}
	if len(networks) > 0 {
		return address, networks, nil
	}
	for _, i := range interfaces {
		if i.docker || i.prefix.Addr() == address {
			networks = append(networks, i.prefix.Masked())
		}
	}
	if len(networks) == 0 {
		return netip.Addr{}, nil, fmt.Errorf("no network of containers is known for %s: name it with --docker-network", address)
	}
	return address, networks, nil
}

// bridge is an IPv4 address of this machine with its network.
type bridge struct {
	prefix netip.Prefix
	docker bool // of a bridge that Docker made
}

// chooseAddress selects what --listen-docker names, or what Bitbucket or Docker provides.
func chooseAddress(given, bitbucket string, interfaces []bridge) (netip.Addr, error) {
	for _, text := range []string{given, bitbucket} {
		if text == dockerAuto || text == "" {
			continue
		}
		address, err := netip.ParseAddr(text)
		if err == nil && address.Is4() && !address.IsUnspecified() && !address.IsLoopback() {
			return address, nil
		}
		if text == given {
			return netip.Addr{}, invalid(fmt.Errorf("--listen-docker %q is not an IPv4 address that containers reach: write that of docker0, such as --listen-docker=172.17.0.1", given))
		}
	}
	for _, i := range interfaces {
		if i.docker {
			return i.prefix.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("this machine has no docker0: give the address at which containers reach the step to --listen-docker")
}

// bridges returns the IPv4 addresses of this machine outside loopback, docker0 first.
func bridges() ([]bridge, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	var list []bridge
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		docker := i.Name == "docker0" || strings.HasPrefix(i.Name, "br-")
		for _, a := range addresses {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || !prefix.Addr().Is4() {
				continue
			}
			if b := (bridge{prefix, docker}); i.Name == "docker0" {
				list = append([]bridge{b}, list...)
			} else {
				list = append(list, b)
			}
		}
	}
	return list, nil
}
