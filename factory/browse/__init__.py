"""``factory browse``: a local web application to look at a store and to say what one thinks of it.

It answers on 127.0.0.1 alone, to requests that carry the token of its address, and writes nothing
but reviews. Its browser libraries lie beside it (``static/vendor``), so nothing is fetched.
"""
