"""A small Flask site."""

from flask import Flask, jsonify, render_template_string, request

handle_request = app = Flask(__name__)

PAGE = "<h1>{{ greeting }}, {{ name }}!</h1>{% for i in range(10) %}<p>{{ i }}</p>{% endfor %}"


@app.route("/")
def index():
    return render_template_string(PAGE, greeting="Hello", name=request.args.get("name", "world"))


@app.route("/items", methods=["GET", "POST"])
def items():
    return jsonify(posted=request.get_json(silent=True), items=list(range(20)))
