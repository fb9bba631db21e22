// Package realstack holds one test, of everything real at once: the production
// binaries, each a process of its own, on the real pcscd with vpcd's readers
// and on swtpm. Two citizens are enrolled through a pseudo-terminal as a person
// would do it, the first while the registry is down.
//
// scripts/real-stack runs it: as root, in namespaces of its own, because vpcd
// listens on all addresses and pcscd has one socket for the whole machine. The
// test is behind the build tag realstack and never skips.
package realstack
