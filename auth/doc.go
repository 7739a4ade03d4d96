// Package auth says who is calling: it turns the credential of a request into a [Principal], or refuses it.
//
// A credential is a key that the configuration knows, presented as Authorization: Bearer or as x-api-key, or a JSON Web
// Token that an identity provider signed, presented as a bearer. [New] makes an [Authenticator] from both:
//
//	a, err := auth.New(auth.Config{Keys: keys, Tokens: verifier})
//	p, err := a.Authenticate(auth.Presented{Authorization: header}, time.Now())
//	if p.May("support") { … }
//
// Whatever is wrong with a credential, the answer is [ErrRejected], and for keys the work is the same too: one hash, one
// lookup, one comparison. Why it was refused is for logs alone, see [Reason]. No error repeats any part of a credential.
//
// Keys are known by their SHA-256 only: they are random, so that a slow hash would protect nothing, and it would cost
// every request. [GenerateKey] makes one.
package auth
