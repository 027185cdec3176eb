// Where the server is, from the address of a screen: the browser's part of it.
//
// Streamlit's code tries the address of the screen first (/explore/_stcore/health), which is not there, and what stands
// above it next: two answers of 404 in the console at every visit. It tries no other place than one that is named here.
{
  const screens = "SCREENS".split(" ");  // their names are put here by pages/parts/shell.py
  const parts = location.pathname.replace(/\/+$/, "").split("/");
  if (screens.includes(parts.at(-1))) parts.pop();
  window.__streamlit = { ...window.__streamlit, BACKEND_BASE_URL: `${location.origin}${parts.join("/")}/` };
}
