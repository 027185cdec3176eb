"""Back and forward between the networks, layers and pairs that were looked at: the browser's part of it."""

from __future__ import annotations

# Streamlit replaces the address whenever a widget changes, so Back would leave the screen. What names another thing
# to look at, if a user did it, becomes an entry of the history instead; and whoever goes back gets the address whole,
# since every screen is restored by its address.
SCRIPT = """<script>
if (!window.strataBack) {
  window.strataBack = true;
  const things = ["network", "networks", "layer", "one", "pair", "projection", "idea", "show", "audit"];
  const named = (url) => {
    const query = new URL(url ?? location.href, location.href).searchParams;
    return JSON.stringify(things.map((name) => query.getAll(name)));
  };
  let touched = false;  // since the last entry: one act of the user is one step back
  for (const act of ["pointerdown", "keydown"]) addEventListener(act, () => { touched = true; }, true);
  const replace = history.replaceState.bind(history);
  history.replaceState = (state, title, url) => {
    if (!touched || named(url) === named()) return replace(state, title, url);
    touched = false;
    return history.pushState(state, title, url);
  };
  addEventListener("popstate", (event) => {
    if (location.hash) return;
    event.stopImmediatePropagation();
    location.reload();
  }, true);
}
</script>"""
