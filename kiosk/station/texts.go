package station

import (
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"enrollkiosk/registry/policy"
)

// builtin are the consent texts that come with the program: NAME.LANGUAGE.txt,
// title in the first line. A policy names the ones in force by their digest.
//
//go:embed texts/*.txt
var builtin embed.FS

type text struct{ id, language, words string }

// readTexts reads a directory of consent texts, "" for the built-in ones.
func readTexts(dir string) ([]text, error) {
	var files fs.FS
	files, err := fs.Sub(builtin, "texts")
	if err != nil {
		return nil, err
	}
	if dir != "" {
		files = os.DirFS(dir)
	}
	names, err := fs.Glob(files, "*.txt")
	if err != nil {
		return nil, err
	}
	var out []text
	for _, name := range names {
		parts := strings.Split(name, ".")
		if len(parts) != 3 {
			return nil, fmt.Errorf("consent text %s: name must be NAME.LANGUAGE.txt", name)
		}
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("consent text: %w", err)
		}
		out = append(out, text{parts[0], parts[1], string(b)})
	}
	return out, nil
}

// byDigest is kiosk.Config.Texts.
func byDigest(texts []text) func([32]byte) (string, bool) {
	m := map[[32]byte]string{}
	for _, t := range texts {
		m[sha256.Sum256([]byte(t.words))] = t.words
	}
	return func(digest [32]byte) (string, bool) {
		words, ok := m[digest]
		return words, ok
	}
}

// ErrTexts means that the policy asks for consent to words that are not here.
var ErrTexts = errors.New("a consent text of the policy is not installed: update this kiosk, or set kiosk.texts")

// installed says whether every consent text of a policy is here in every
// language that this kiosk offers.
func installed(c Config, p policy.Policy) error {
	texts, err := readTexts(c.Kiosk.Texts)
	if err != nil {
		return err
	}
	find := byDigest(texts)
	for _, t := range p.Consents {
		for _, language := range c.Kiosk.Languages {
			digest, ok := t.Digest(language)
			if _, found := find(digest); !ok || !found {
				return fmt.Errorf("%w: %s in %s", ErrTexts, t.ID, language)
			}
		}
	}
	return nil
}

// WriteTexts writes the built-in consent texts to a directory, for the policy
// that is to name them.
func WriteTexts(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	texts, err := readTexts("")
	if err != nil {
		return err
	}
	for _, t := range texts {
		if err := os.WriteFile(filepath.Join(dir, t.id+"."+t.language+".txt"), []byte(t.words), 0o644); err != nil {
			return err
		}
	}
	return nil
}
