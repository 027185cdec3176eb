// The menu of screens on a narrow window, where it lies over the page: the browser's part of closing it.
//
// Below 768 pixels streamlit moves the menu into a sidebar, which stays open, and is open again after a reload, until
// its arrow is pressed. Whoever chooses a screen wants to see it, so the choice presses the arrow.
{
  document.addEventListener("click", (event) => {
    const chosen = event.target.closest?.("[data-testid=stSidebarNavLink]");
    const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey;  // opens a tab or window of its own
    if (chosen && !elsewhere && innerWidth < 768)
      document.querySelector("[data-testid=stSidebarCollapseButton] button")?.click();
  });
}
