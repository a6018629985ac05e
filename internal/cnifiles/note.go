package cnifiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// noteName is the file in which a state directory keeps what was installed. It
// is not in the store: what is on the host stays there when the store is set
// aside or lost, and has to be found again.
const noteName = "cni.json"

// Note keeps durably what is about to be installed.
func (c Config) Note(stateDir string) error {
	text, err := json.Marshal(c)
	if err == nil {
		err = replace(filepath.Join(stateDir, noteName), 0o600, bytes.NewReader(text))
	}
	if err == nil {
		err = syncDir(stateDir)
	}
	if err != nil {
		return fmt.Errorf("note what is installed for CNI: %w", err)
	}
	return nil
}

// Noted is what was noted last; ok is false if nothing was.
func Noted(stateDir string) (c Config, ok bool, err error) {
	path := filepath.Join(stateDir, noteName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return Config{}, false, fmt.Errorf("%s, which says what is installed for CNI, cannot be read: %w; remove it, and `weft cni install` again", path, err)
	}
	return c, true, nil
}

// Forget removes the note.
func Forget(stateDir string) error {
	if err := os.Remove(filepath.Join(stateDir, noteName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget what was installed for CNI: %w", err)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
