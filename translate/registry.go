package translate

import (
	"errors"
	"slices"
	"sort"
	"strings"
)

// registry lists the protocols in the order in which people are shown them. A
// new protocol is a file and a line here.
var registry = []*Protocol{
	&chatProtocol,
	&responsesProtocol,
	&cognipeerProtocol,
	&ticosProtocol,
	&swarmsProtocol,
	&cyclsProtocol,
}

// Protocols returns all protocols. The slice is the caller's, the protocols
// are shared and must not be changed.
func Protocols() []*Protocol { return append([]*Protocol(nil), registry...) }

// Lookup finds a protocol by its name, nil if there is none.
func Lookup(name string) *Protocol {
	for _, p := range registry {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Names returns the protocols' names in registry order.
func Names() []string {
	names := make([]string, len(registry))
	for i, p := range registry {
		names[i] = p.Name
	}
	return names
}

// CheckOption says what is wrong with a switch of agents[].options, and what
// there is instead; nil if nothing is.
func CheckOption(protocol, name, value string) error {
	p := Lookup(protocol)
	if p == nil {
		return nil
	}
	var known []string
	for _, o := range p.Options {
		if o.Name != name {
			known = append(known, o.Name)
			continue
		}
		if o.Check != nil {
			return o.Check(value)
		}
		if len(o.Values) == 0 {
			return nil
		}
		if slices.Contains(o.Values, value) {
			return nil
		}
		return errors.New("must be one of " + strings.Join(o.Values, ", "))
	}
	sort.Strings(known)
	if len(known) == 0 {
		return errors.New("protocol " + protocol + " has no options")
	}
	return errors.New("protocol " + protocol + " has no such option; it has " + strings.Join(known, ", "))
}

// CheckDefault says why a member of agents[].defaults does nothing for a backend of
// the protocol; nil if it is sent. Such a default is not the client's loss, so that
// no ledger names it.
func CheckDefault(protocol, name string) error {
	if p := Lookup(protocol); p != nil && slices.Contains(p.NoDefaults, name) {
		return errors.New("is never sent: protocol " + protocol + " has no such setting")
	}
	return nil
}
