// Package config is the contract between Dragoman and the people who run it: one YAML file, read strictly, validated as
// a whole, and immutable once loaded.
//
// [Load] reads a file, [Parse] reads bytes, and [Sidecar] builds the same thing from command-line flags. Each returns
// every [Problem] at once, with its line, its path and what to write instead. A problem of severity [Error] means that
// there is no configuration; a [Warning] is for `dragoman check` and the log.
//
// The structs are the reference manual: a field says what it is, what its default is, and when to change it. The values
// of the defaults are in one place each: [Default] and [DefaultAgent].
//
// A setting that does nothing is a lie. What a later version will know is therefore recognised and refused ("not
// supported by this version"), so that nobody believes a limit to be in force that is not.
//
// Nothing secret prints. A [Secret] shows itself as <secret> however it is formatted, and no problem quotes a value
// that came from the environment, from a file, or from a place where a secret belongs.
//
// Who may call fails closed: without a key, a token or the written word that everybody may, there is no configuration. A
// key is kept as its hash. [Config.ReadKeys] reads keys again that are in files; for
// everything else a new configuration is loaded, which takes the place of the old one as a whole.
//
// The package is a leaf: the names of the protocols, and what each protocol's own options mean, are handed in through
// [Options].
package config
