"""Back and forward between the networks, layers and pairs that were looked at: the browser's part of it."""

from __future__ import annotations

# Streamlit replaces the address when a widget changes, so that Back would leave the screen, and makes an entry of the
# history when the server changes it. Instead, one act of the user that names another thing to look at is one entry;
# and whoever goes back gets the address whole, since every screen is restored by its address.
SCRIPT = """<script>
if (!window.strataBack) {
  window.strataBack = true;
  const things = ["network", "networks", "layer", "one", "pair", "projection", "idea", "show", "audit"];
  const named = (url) => {
    const query = new URL(url ?? location.href, location.href).searchParams;
    return JSON.stringify(things.map((name) => query.getAll(name)));
  };
  let touched = false;  // since the last entry: one act of the user is one step back
  let emptied = null;  // on the way to another screen the address first loses its query: whoever goes back wants it
  for (const act of ["pointerdown", "keydown"]) addEventListener(act, () => { touched = true; }, true);
  const push = history.pushState.bind(history), replace = history.replaceState.bind(history);
  const go = (state, title, url) => {
    const to = new URL(url ?? location.href, location.href), from = location.href;
    if (to.pathname !== location.pathname) {
      touched = false;
      if (!emptied || performance.now() - emptied.at > 1000) return push(state, title, url);
      if (emptied.pushed) return replace(state, title, url);
      replace(history.state, "", emptied.from);
      return push(state, title, url);
    }
    const pushed = touched && named(url) !== named();
    if (location.search && !to.search) emptied = { at: performance.now(), from, pushed };
    if (!pushed) return replace(state, title, url);
    touched = false;
    return push(state, title, url);
  };
  history.replaceState = go;
  history.pushState = go;
  addEventListener("popstate", (event) => {
    if (location.hash) return;
    event.stopImmediatePropagation();
    location.reload();
  }, true);
}
</script>"""
