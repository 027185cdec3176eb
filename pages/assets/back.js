// Back and forward between the screens, networks, layers and pairs that were looked at: the browser's part of it.
//
// Streamlit replaces the address when a widget changes, so that Back would leave the screen, and makes an entry of the
// history when the server changes it. On the way to another screen it empties the query of the old one, or writes the
// new one's query behind the old path, and changes the path last. Instead, one act of the user that names another
// thing to look at is one entry, and the entry that is left holds the address as the user saw it when acting. Whoever
// goes back loads that address anew, since every screen is restored by its address.
//
// Links between the screens too: to what a link names, Streamlit adds what the address names of the widgets that are
// left, so that the next screen could not tell the two apart. It finds an empty query while it asks for that screen.
{
  const things = ["network", "networks", "layer", "one", "pair", "projection", "idea", "show", "audit"];
  const named = (url) => {
    const query = new URL(url ?? location.href, location.href).searchParams;
    return JSON.stringify(things.map((name) => query.getAll(name)));
  };
  let act = null;  // the user's last: when, at which address, and whether it has made its entry
  let leaving = false;
  const acted = () => {
    const underway = act && !location.search && act.address.includes("?") && performance.now() - act.at < 3000;
    if (!underway) act = { at: performance.now(), address: location.href, entered: false };  // else a second press
  };
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, acted, true);
  const push = history.pushState.bind(history), replace = history.replaceState.bind(history);
  const enter = (...to) => {
    replace(history.state, "", act.address);
    act.entered = true;
    push(...to);
  };
  const go = (state, title, url) => {
    if (leaving) return;
    const elsewhere = new URL(url ?? location.href, location.href).pathname !== location.pathname;
    if (!elsewhere) {
      if (act && !act.entered && named(url) !== named()) enter(state, title, url);
      else replace(state, title, url);
      return;
    }
    if (!act || new URL(act.address).pathname !== location.pathname) push(state, title, url);
    else if (act.entered) replace(state, title, url);
    else enter(state, title, url);
    act = null;
  };
  history.replaceState = go;
  history.pushState = go;
  addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || link.origin !== location.origin || link.pathname === location.pathname) return;
    const address = location.href;
    replace(history.state, "", location.pathname);
    const bare = location.href;
    setTimeout(() => { if (location.href === bare) replace(history.state, "", address); });
  }, true);
  addEventListener("popstate", (event) => {
    if (location.hash) return;
    event.stopImmediatePropagation();
    leaving = true;  // what the server still says is of the screen that is left
    location.reload();
  }, true);
}
