package cnifiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Files are those that Install writes, in its order.
func (c Config) Files() []string {
	return append(c.plugins(), c.networkFile())
}

// plugins are the files of them that are programs.
func (c Config) plugins() []string {
	return []string{filepath.Join(c.BinDir, PluginType), filepath.Join(c.BinDir, IPAMType)}
}

// InstallPlugins copies the plugin as Install does, where there is none, and
// writes no network. One that is there is left alone: it fits the daemon that
// runs, which renews it itself. It returns what was written.
func (c Config) InstallPlugins(weft string) (written []string, err error) {
	for _, path := range c.plugins() {
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		if err := copyPlugin(weft, path); err != nil {
			return written, fmt.Errorf("install %s: %w", path, err)
		}
		written = append(written, path)
	}
	return written, nil
}

// Check finds out whether Install would be refused by what is on the host.
func (c Config) Check() error {
	for _, p := range c.Chain {
		if _, err := os.Stat(filepath.Join(c.BinDir, p)); err != nil {
			return fmt.Errorf("plugin %s is to run after weft's, and is not in %s: %w", p, c.BinDir, err)
		}
	}
	text, err := os.ReadFile(c.networkFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the network's file: %w", err)
	}
	if !isWefts(text) {
		return fmt.Errorf("%s is not weft's: give the network another name", c.networkFile())
	}
	return nil
}

// Install copies the plugin, which is weft's own program where this weft carries
// no other, to where runtimes look for plugins, and then writes the network's
// file. Each appears whole, under its name, at once. Directories are made. What
// is right already is left alone.
func (c Config) Install(weft string) error {
	if err := c.Check(); err != nil {
		return err
	}
	for _, path := range c.plugins() {
		if err := copyPlugin(weft, path); err != nil {
			return fmt.Errorf("install %s: %w", path, err)
		}
	}
	if err := os.MkdirAll(c.ConfDir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	text := c.Network()
	if there, err := os.ReadFile(c.networkFile()); err == nil && bytes.Equal(there, text) {
		return nil
	}
	return replace(c.networkFile(), 0o644, bytes.NewReader(text))
}

// Remove takes away what Install wrote, the network first, so that no runtime
// begins to use a plugin that goes. What is not there, or not weft's, is not
// in the list of what was removed.
func (c Config) Remove() (removed []string, err error) {
	files := c.Files()
	if text, e := os.ReadFile(c.networkFile()); e != nil || !isWefts(text) {
		files = c.plugins()
	}
	for i := len(files) - 1; i >= 0; i-- {
		switch e := os.Remove(files[i]); {
		case e == nil:
			removed = append(removed, files[i])
		case !errors.Is(e, fs.ErrNotExist):
			err = errors.Join(err, e)
		}
	}
	return removed, err
}

func copyPlugin(weft, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	src, err := openSource(weft)
	if err != nil {
		return err
	}
	defer src.Close()
	if there, err := same(src, to); there || err != nil {
		return err
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return replace(to, 0o755, src)
}

// same tells whether a file has the content of another, and may be executed.
func same(src io.ReadSeeker, path string) (bool, error) {
	size, err := src.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = src.Seek(0, io.SeekStart)
	}
	if err != nil {
		return false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != size || st.Mode().Perm() != 0o755 {
		return false, nil
	}
	x, y := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, err1 := io.ReadFull(src, x)
		m, err2 := io.ReadFull(f, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if err1 != nil || err2 != nil {
			return n == m, nil
		}
	}
}

// replace writes a file beside its place and moves it there: in the same
// directory, since a runtime does not notice what comes from another, and since
// a rename does not cross mounts. Its own temporary name is no network's.
func replace(path string, mode os.FileMode, content io.Reader) (err error) {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary))
		}
	}()
	_, err = io.Copy(f, content)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask is
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
