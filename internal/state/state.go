// Package state keeps conversations, so that a client can go on with what was said before without
// sending it again.
//
// What is kept belongs to an owner, and is found under that owner alone: to ask for another's
// conversation is to ask for one that does not exist, and takes as long.
package state

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// Errors of a [Store]. Others say that it could not be asked, or that it could not write.
var (
	// ErrTooLarge says that a change would make a conversation, or what one owner has, larger than is kept. Nothing
	// has changed.
	ErrTooLarge = errors.New("the conversation is too large to be kept")
	// ErrGone says that an entry which a change needs is not there (any more). Nothing has changed.
	ErrGone = errors.New("what the change builds on is gone")
	// ErrClosed says that the store has been closed.
	ErrClosed = errors.New("the store is closed")
)

// Kind is what an entry of a conversation is.
type Kind byte

// The kinds of entries.
const (
	// Turn entries are what was said. They are read together.
	Turn Kind = 't'
	// Object entries are read one by one.
	Object Kind = 'o'
)

// Ref names an entry. Conv and Name are of 1 to 128 bytes of printable ASCII without a space or a slash.
type Ref struct {
	Conv string
	Kind Kind
	Name string
}

// Entry is an entry of a conversation. Its value belongs to whoever got it, and is not changed by the store once it
// was given one.
type Entry struct {
	Ref
	Value []byte
}

// Change is what one call of [Store.Save] does, as a whole or not at all.
type Change struct {
	// Need are entries that must exist beforehand.
	Need []Ref
	// Remove are entries that are removed first; those that do not exist are ignored. With an empty Name it is the whole
	// conversation, whatever the Kind.
	Remove []Ref
	// Put are entries that are then written, in place of those of the same Ref.
	Put []Entry
}

// Read is what a call of [Store.Read] asks for.
type Read struct {
	Convs []string // whose turns are wanted, all of them
	Refs  []Ref    // single entries
}

// Found is what was there.
type Found struct {
	// Turns are the turns of each of Read.Convs, ordered by their names, byte by byte; nil where there is none.
	Turns [][]Entry
	// Values are those of Read.Refs, nil where there is none.
	Values [][]byte
}

// Limits bound what a store keeps. Zero is no bound.
type Limits struct {
	// TTL is how long a conversation is kept that is neither read nor changed.
	TTL time.Duration
	// MaxBytes, MaxOwnerBytes and MaxConversationBytes bound all conversations, those of one owner, and one. The size of
	// an entry is that of its names and its value and [EntryOverhead]. Whoever exceeds one of the first two loses the
	// conversations that were not used for longest, his own or anybody's, whole; the last is [ErrTooLarge], and so is a
	// conversation that exceeds the others alone.
	MaxBytes, MaxOwnerBytes, MaxConversationBytes int64
}

// EntryOverhead is what an entry counts beyond its bytes: about what a map or an index needs for it.
const EntryOverhead = 96

// Stats are what a store holds and has thrown away.
type Stats struct {
	Conversations, Bytes int64
	// Expired conversations were not used for the TTL; EvictedOwner and EvictedTotal had to make room in their owner's
	// share and in the store. They count since the process began, and what this process threw away.
	Expired, EvictedOwner, EvictedTotal int64
}

// Store keeps conversations. It may be used by several goroutines at once. Owners are any text.
type Store interface {
	// Read gets turns and entries in one round trip, and renews the conversations that it found.
	Read(ctx context.Context, owner string, r Read) (Found, error)
	// Save makes a change in one round trip. When it has returned nil the change outlives whatever the store promises to
	// outlive, and every Read that begins afterwards sees it, in other processes that share the store too. After an
	// error other than ErrTooLarge, ErrGone and ErrClosed nobody knows whether it was made.
	Save(ctx context.Context, owner string, c Change) error
	// Lease gives the lease of a name to a holder for a time, or renews it, and reports whether that holder has it. It is
	// refused while another one has it.
	Lease(ctx context.Context, owner, name, holder string, ttl time.Duration) (bool, error)
	// Leased reports which holder has the lease of a name, "" if none has.
	Leased(ctx context.Context, owner, name string) (string, error)
	// Release gives a lease back, if the holder has it.
	Release(ctx context.Context, owner, name, holder string) error
	// Stats asks nobody: what is shared with other processes is as of the last call.
	Stats() Stats
	// Ping says whether the store could be used now.
	Ping(ctx context.Context) error
	// Close ends the store. Calls that run end first.
	Close() error
}

var errName = errors.New("a name is empty, too long, or has other characters than printable ASCII")

// check says what is wrong with the names in a change.
func (c *Change) check() error {
	for _, r := range c.Need {
		if !r.valid() {
			return errName
		}
	}
	for _, r := range c.Remove {
		if r.Name != "" && !r.valid() || !validName(r.Conv) {
			return errName
		}
	}
	for i := range c.Put {
		if !c.Put[i].valid() {
			return errName
		}
	}
	return nil
}

func (r Ref) valid() bool {
	return (r.Kind == Turn || r.Kind == Object) && validName(r.Conv) && validName(r.Name)
}

func validName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '/' {
			return false
		}
	}
	return true
}

// sortEntries orders entries by their names.
func sortEntries(all []Entry) {
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
}
