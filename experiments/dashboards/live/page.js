"use strict";
// Opens the socket over which the page is filled, keeps what one chose in its address, and waits where it is lost.
(() => {
  const { token, parts } = document.body.dataset;
  const lost = () => {
    const again = () =>
      fetch("static/js/bokeh.min.js", { method: "HEAD" }).then(() => location.reload(), () => setTimeout(again, 2000));
    document.body.classList.add("lost");
    setTimeout(again, 2000);
  };
  const filled = () => {
    const page = Bokeh.documents[0];
    const widgets = page.roots().filter((root) => "value" in root.properties);
    const chosen = () => {
      const values = widgets.filter(({ value }) => value.length).map(({ name, value }) => [name, value]);
      history.replaceState(null, "", `?${new URLSearchParams(values)}`);
    };
    const waiting = page.get_model_by_name("waiting_text");
    const wait = () => document.body.classList.toggle("waiting", waiting.text !== "");
    for (const widget of widgets) widget.connect(widget.properties.value.change, chosen);
    waiting.connect(waiting.properties.text.change, wait);
    for (const name of ["rates_text", "results_text"]) {  // a chart that is not there leaves its place to the other
      const text = page.get_model_by_name(name);
      const show = () => { document.getElementById(name).parentElement.hidden = text.text === ""; };
      text.connect(text.properties.text.change, show);
      show();
    }
    page.on_event("connection_lost", lost);
    wait();
  };
  const socket = new URL("ws", location.href);
  socket.protocol = socket.protocol.replace("http", "ws");
  const places = parts.split(" ").map((name) => document.getElementById(name));
  Bokeh.embed.add_document_from_session(socket.href, token, document.body, places, true).then(filled, lost);
})();
