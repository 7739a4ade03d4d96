package auth

import "errors"

var (
	// ErrRejected is the one answer to a credential that lets nobody in, whatever is wrong with it, and to none at all.
	// Clients are told no more. [Reason] is for logs.
	ErrRejected = errors.New("not authenticated")

	// ErrConflict is for two credentials in one request that are not the same: which of them counts would be a guess.
	ErrConflict = errors.New("authorization and x-api-key are both present and differ: send one of them")

	// ErrUnavailable says that tokens cannot be judged yet, because the issuer's public keys have never been loaded.
	ErrUnavailable = errors.New("the token issuer's public keys are not available yet")
)

// rejection is an [ErrRejected] that remembers why. All of them are constants of this package, so that a refusal costs no
// allocation and cannot hold what a client sent.
type rejection struct{ reason string }

func (r *rejection) Error() string { return ErrRejected.Error() + ": " + r.reason }

func (r *rejection) Is(target error) bool { return target == ErrRejected }

var (
	errMissing   = &rejection{"no credential"}
	errMalformed = &rejection{"malformed credential"}
	errUnknown   = &rejection{"unknown key"}
	errExpired   = &rejection{"expired key"}
	errDisabled  = &rejection{"disabled key"}
)

// Reason is why a credential was refused, in a few words from a fixed list, for logs and metrics. It never holds a part
// of the credential, and clients must not see it: which keys have existed is nobody's business. It is empty for other
// errors.
func Reason(err error) string {
	if r, ok := errors.AsType[*rejection](err); ok {
		return r.reason
	}
	return ""
}
