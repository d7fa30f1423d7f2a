// MLflow shows an artifact from an address of its own, blob:, where a relative link leads nowhere:
// the links to neighbours are taken out of a copy of a page that has none beside it.
if (!/^(file|https?):$/.test(location.protocol))
  for (const link of document.querySelectorAll("a[href]"))
    if (!/^(#|[a-z]+:)/i.test(link.getAttribute("href"))) link.replaceWith(...link.childNodes);
