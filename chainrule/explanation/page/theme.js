// Light or dark, kept for the next page; in print everything is open but the numbers of charts.
export function themeToggle() {
  const root = document.documentElement, button = document.getElementById("theme"), kept = "chainrule-theme";
  const store = { get: () => { try { return localStorage.getItem(kept); } catch { return null; } }, set: v => { try { localStorage.setItem(kept, v); } catch { /* a file opened from disk may have no storage */ } } };
  if (["dark", "light"].includes(store.get())) root.dataset.theme = store.get();
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    store.set(root.dataset.theme);
  });
  addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details:not([open])")) if (!one.closest(".finding")) one.open = true; });
}
